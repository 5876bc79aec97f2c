import { isEvent, type CloudEvent } from '@cardan/shared';
import { EventFields } from './event-fields.ts';
import type { Clusters } from './messages.ts';

/** A fleet has a handful of signal sets; the page shows the newest. */
const SETS_MAX = 10;
const STATES_MAX = 20;
const SIGNALS_MAX = 1000;

/** The newest that the learner says of each signal set. */
export class ClusterView {
  private readonly sets = new Map<string, Clusters>();

  /** Whether there is something new to show. */
  take(event: CloudEvent): boolean {
    // Which vehicle is in which cluster is for others to read: the page shows how many.
    if (!isEvent(event, 'io.cardan.clusters.learned')) return false;
    const fields = new EventFields(event.data);
    const signalSet = fields.text('signalSet');
    const clusters: Clusters = {
      signalSet,
      states: fields.list('states', STATES_MAX, (state) => ({
        center: state.numbers('center', SIGNALS_MAX),
        windows: state.number('windows'),
      })),
      clusters: fields.list('clusters', STATES_MAX, (cluster) => ({
        shares: cluster.numbers('shares', STATES_MAX),
        vehicles: cluster.number('vehicles'),
      })),
    };
    this.sets.delete(signalSet);
    this.sets.set(signalSet, clusters);
    if (this.sets.size > SETS_MAX) this.sets.delete(this.sets.keys().next().value!);
    return true;
  }

  list(): Clusters[] {
    return [...this.sets.values()];
  }
}
