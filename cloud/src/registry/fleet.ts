import { type CardanError, ensureLogTopics, isEvent, checkVehicleId, recordToEvent } from '@cardan/shared';
import type { Batch, EventLog } from '@cardan/shared/event-log';
import { Tail } from './tail.ts';

export interface FleetOptions {
  log: EventLog;
  onProblem: (error: CardanError) => void;
}

/** Which vehicles there are, and which columns each sends: a projection of `vehicle-events`. */
export class Fleet {
  /** Records that could not be read, and were passed over. */
  malformed = 0;
  private readonly signalSets = new Map<string, string>();
  private readonly listeners = new Set<() => void>();
  private tail: Tail | undefined;
  private changed = false;

  private constructor() {}

  /** Resolves when the history has been replayed. */
  static async open({ log, onProblem }: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet();
    const topic = 'vehicle-events';
    await ensureLogTopics(log, [topic]);
    fleet.tail = await Tail.start({
      log,
      topic,
      apply: (batch) => fleet.apply(batch),
      settle: async () => fleet.settle(),
      onProblem,
    });
    return fleet;
  }

  /** Vehicle → signal set. */
  vehicles(): ReadonlyMap<string, string> {
    return this.signalSets;
  }

  /** Calls back after vehicles have appeared or changed their signal set. Returns how to stop it. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  async close(): Promise<void> {
    await this.tail?.close();
  }

  private apply(batch: Batch): void {
    for (const record of batch.records) {
      try {
        const event = recordToEvent(record);
        if (isEvent(event, 'io.cardan.vehicle.boot') || isEvent(event, 'io.cardan.vehicle.reported'))
          this.seen(record.key ?? '', event.data.signalSet);
      } catch {
        this.malformed++;
      }
    }
  }

  private seen(vehicle: string, signalSet: unknown): void {
    checkVehicleId(vehicle);
    if (typeof signalSet !== 'string') throw new TypeError('no signal set');
    if (this.signalSets.get(vehicle) === signalSet) return;
    this.signalSets.set(vehicle, signalSet);
    this.changed = true;
  }

  private settle(): void {
    if (!this.changed) return;
    this.changed = false;
    for (const listener of this.listeners) listener();
  }
}
