import { isEvent, parseManifest, type CloudEvent, type ModelManifest, type ModelRef } from '@cardan/shared';
import { EventFields } from './event-fields.ts';
import type { PublishedModel, Training } from './messages.ts';

/** Trainings and versions kept for the page; older ones stay in the log. */
const TRAININGS_MAX = 20;
const MODELS_MAX = 200;
/** Points of one loss curve: more epochs than any training of ours has. */
const EPOCHS_MAX = 1000;

/** What the topic `models` says: trainings, publications, decisions. */
export class ModelHistory {
  private readonly trainings = new Map<string, Training>();
  private readonly models = new Map<string, ModelManifest>();
  /** Per signal set the model that its cars should run. */
  private readonly decided = new Map<string, ModelRef>();

  take(event: CloudEvent): void {
    const fields = new EventFields(event.data);
    const time = Date.parse(event.time);
    if (isEvent(event, 'io.cardan.training.requested')) {
      const training = fields.text('training');
      const signalSet = fields.isNull('signalSet') ? null : fields.text('signalSet');
      this.training(training, { state: 'requested', signalSet, reason: fields.text('reason'), time });
    } else if (isEvent(event, 'io.cardan.training.started')) {
      const [training, model] = [fields.text('training'), fields.text('model')];
      // One request can be answered by several trainings, one per signal set.
      this.trainings.delete(training);
      this.training(`${training} ${model}`, {
        state: 'running',
        model,
        signalSet: fields.text('signalSet'),
        reason: fields.text('reason'),
        rows: fields.number('rows'),
        vehicles: fields.number('vehicles'),
        epochs: fields.number('epochs'),
        progress: [],
        error: null,
        time,
      });
    } else if (isEvent(event, 'io.cardan.training.progress')) {
      const training = this.runningOf(fields.text('training'));
      if (training === undefined || training.progress.length >= EPOCHS_MAX) return;
      training.progress.push([
        fields.number('epoch'),
        fields.number('loss'),
        fields.number('validationLoss'),
      ]);
      training.epochs = fields.number('epochs');
      training.rowsPerSecond = fields.number('rowsPerSecond');
    } else if (isEvent(event, 'io.cardan.training.completed')) {
      const [training, model] = [fields.text('training'), fields.text('model')];
      this.training(`${training} ${model}`, {
        state: 'completed',
        model,
        version: fields.text('version'),
        rows: fields.number('rows'),
        seconds: fields.number('seconds'),
        threshold: fields.number('threshold'),
      });
    } else if (isEvent(event, 'io.cardan.training.failed')) {
      const [training, model] = [fields.text('training'), fields.text('model')];
      const reason = this.trainings.get(training)?.reason;
      this.trainings.delete(training);
      this.training(`${training} ${model}`, {
        state: 'failed',
        model,
        ...(reason === undefined ? {} : { reason }),
        error: `${fields.text('code')}: ${fields.text('message')}`,
        time,
      });
    } else if (isEvent(event, 'io.cardan.model.published')) {
      const manifest = parseManifest(Buffer.from(JSON.stringify(fields.value('manifest'))));
      this.models.set(keyOf(manifest), manifest);
      dropOldest(this.models, MODELS_MAX);
    } else if (isEvent(event, 'io.cardan.rollout.decided')) {
      const active = fields.model('active');
      if (active !== null) this.decided.set(fields.text('signalSet'), active);
      dropOldest(this.decided, MODELS_MAX);
    }
  }

  /** Undefined for a model that is not known (yet). */
  threshold(model: ModelRef | null): number | undefined {
    return model === null ? undefined : this.models.get(keyOf(model))?.alarm.threshold;
  }

  /** What the cars with this signal set should run; undefined before the first decision. */
  decidedFor(signalSet: string | null): ModelRef | undefined {
    return signalSet === null ? undefined : this.decided.get(signalSet);
  }

  /** The signals of a set, as a model for it tells them. */
  signalsOf(signalSet: string): ModelManifest['signalSet'] | undefined {
    for (const { signalSet: set } of this.models.values()) if (set.id === signalSet) return set;
    return undefined;
  }

  /** Newest first. */
  listTrainings(): Training[] {
    return [...this.trainings.values()].reverse();
  }

  /** Newest first. `installed`: cars per `name version`. */
  listModels(installed: ReadonlyMap<string, number>): PublishedModel[] {
    return [...this.models.values()].reverse().map((manifest) => {
      const { name, version, createdAt, signalSet, lineage, alarm, metrics } = manifest;
      const decided = this.decided.get(signalSet.id);
      return {
        ...{ name, version, createdAt, metrics },
        signalSet: signalSet.id,
        signals: signalSet.signals.length,
        rows: lineage.rows,
        rowsExcluded: lineage.rowsExcluded,
        vehicles: lineage.vehicles,
        threshold: alarm.threshold,
        span: lineage.span,
        offsets: lineage.offsets,
        seed: lineage.seed,
        codeVersion: lineage.codeVersion,
        parent: lineage.parent,
        installed: installed.get(keyOf(manifest)) ?? 0,
        active: decided?.name === name && decided.version === version,
      };
    });
  }

  private runningOf(training: string): Training | undefined {
    return [...this.trainings.values()]
      .reverse()
      .find(({ key, state }) => state === 'running' && key.startsWith(`${training} `));
  }

  private training(key: string, change: Partial<Training>): void {
    const before = this.trainings.get(key) ?? {
      ...{ key, state: 'requested' as const, model: null, signalSet: null, reason: '', rows: null },
      ...{ vehicles: null, epochs: null, progress: [], rowsPerSecond: null, version: null, seconds: null },
      ...{ threshold: null, error: null, time: 0 },
    };
    this.trainings.set(key, { ...before, ...change });
    dropOldest(this.trainings, TRAININGS_MAX);
  }
}

/** Names a version in maps. */
export function keyOf({ name, version }: ModelRef): string {
  return `${name} ${version}`;
}

function dropOldest<V>(map: Map<string, V>, max: number): void {
  while (map.size > max) map.delete(map.keys().next().value ?? '');
}
