import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  CardanError,
  checkVehicleId,
  cloudEvent,
  ensureDataDir,
  ensureLogTopics,
  type EventData,
  eventToRecord,
  isEvent,
  type ModelRef,
  recordToEvent,
} from '@cardan/shared';
import type { Batch, EventLog, LogRecord, NewRecord } from '@cardan/shared/event-log';
import { problemFrom } from '../registry/problem.ts';
import { Tail } from '../registry/tail.ts';
import { PollTimes } from './poll-times.ts';
import { ProjectionFile } from './projection-file.ts';
import { changedAttributes, readChange, readRegistration, sameAttributes, type Vehicle } from './vehicle.ts';
import {
  type PolledVehicle,
  type Seen,
  VehicleTable,
  VEHICLES_SCHEMA,
  VEHICLES_VERSION,
} from './vehicle-table.ts';

const SOURCE = '/services/registry';
/** Records of one append: few enough that polls are answered in between. */
const CHUNK = 1000;
/** What a vehicle says that changes its row. What else it sends only shows that it is there. */
const TELLING = new Set(['io.cardan.vehicle.boot', 'io.cardan.vehicle.reported', 'io.cardan.vehicle.status']);

export interface FleetOptions {
  log: EventLog;
  /** Gets the file `fleet.db`. */
  dir: string;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  onProblem: (error: CardanError) => void;
}

/** What became of vehicles that were to be registered. */
export interface Registered {
  created: number;
  /** They were registered with something else. */
  changed: number;
  unchanged: number;
}

/**
 * The vehicles: what operators say of them (topic `vehicles`) and what they say of themselves (`vehicle-events`). A
 * projection in one SQLite file, which may be deleted; it is as large as the fleet, and memory is not.
 */
export class Fleet {
  /** Records that could not be read, and were passed over. Since the start. */
  malformed = 0;
  private readonly options: FleetOptions;
  private readonly clock: () => number;
  private readonly file: ProjectionFile;
  private readonly table: VehicleTable;
  private readonly pollTimes: PollTimes;
  private readonly listeners = new Set<(changed: ReadonlySet<string>) => void>();
  private tails: Tail[] = [];
  private changedIds = new Set<string>();
  private counted: number | undefined;
  private lastPolling: { id: string; vehicle: PolledVehicle | undefined } | undefined;
  private writing: Promise<unknown> = Promise.resolve();

  private constructor(options: FleetOptions, file: ProjectionFile) {
    this.options = options;
    this.clock = options.clock ?? Date.now;
    this.file = file;
    this.table = new VehicleTable(file.db);
    this.pollTimes = new PollTimes(file, this.table, (error) => options.onProblem(problemFrom(error)));
  }

  /** Resolves when what is new in the log has been read. Throws DATA_DIR_NOT_WRITABLE. */
  static async open(options: FleetOptions): Promise<Fleet> {
    const { log, onProblem } = options;
    const topics = ['vehicles', 'vehicle-events'] as const;
    await ensureLogTopics(log, topics);
    const file = await ProjectionFile.open({
      path: join(ensureDataDir(options.dir), 'fleet.db'),
      log,
      topics,
      schema: VEHICLES_SCHEMA,
      version: VEHICLES_VERSION,
    });
    const fleet = new Fleet(options, file);
    try {
      for (const topic of topics)
        fleet.tails.push(
          await Tail.start({
            log,
            topic,
            from: file.position(topic),
            apply: (batch) => fleet.apply(batch),
            settle: async () => fleet.settle(),
            onProblem,
          }),
        );
    } catch (error) {
      await fleet.close();
      throw error;
    }
    return fleet;
  }

  /** How many vehicles there are. */
  get size(): number {
    this.counted ??= this.table.count();
    return this.counted;
  }

  /** The columns that it sends; undefined while nobody has said. */
  signalSet(vehicle: string): string | undefined {
    return this.polling(vehicle)?.signalSet ?? undefined;
  }

  /** Throws VEHICLE_UNKNOWN. */
  vehicle(id: string): Vehicle {
    const vehicle = this.table.get(id);
    if (vehicle === undefined) throw unknown(id);
    return vehicle;
  }

  /** Enough for a poll; undefined when it was never heard of. */
  polling(id: string): PolledVehicle | undefined {
    // Who checks the token of a car and who answers it ask one after the other.
    if (this.lastPolling?.id !== id) this.lastPolling = { id, vehicle: this.table.polled(id) };
    return this.lastPolling.vehicle;
  }

  /** SHA-256 of the token that it must show; undefined when none was registered. */
  tokenSha256(id: string): Buffer | undefined {
    const token = this.polling(id)?.tokenSha256;
    return token == null ? undefined : Buffer.from(token, 'hex');
  }

  /** It asks now. Written within a second, with all others. */
  polled({ n }: PolledVehicle): void {
    this.pollTimes.polled(n, this.clock());
  }

  /**
   * Vehicles in the order of their ids, those after `after`, in pages; others are served between two. One that changes
   * meanwhile comes as it is then.
   */
  async *pages(after = '', pageMax = CHUNK): AsyncGenerator<Vehicle[], void, undefined> {
    for (let last = after; ;) {
      const page = this.table.page(last, pageMax);
      if (page.length > 0) yield page;
      if (page.length < pageMax) return;
      last = page.at(-1)!.id;
      await nextTurn();
    }
  }

  /** The same with the signal set only: all that a decision for a signal set needs. */
  async *signalSets(): AsyncGenerator<{ id: string; signalSet: string | null }[], void, undefined> {
    for (let last = ''; ;) {
      const page = this.table.signalSets(last, CHUNK);
      if (page.length > 0) yield page;
      if (page.length < CHUNK) return;
      last = page.at(-1)!.id;
      await nextTurn();
    }
  }

  /** Calls back after vehicles were registered, changed or removed, have appeared, or send other columns. */
  onChange(listener: (changed: ReadonlySet<string>) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * Registers vehicles; of one that is registered already, what is given replaces what was. The same again is fine, so
   * after a failure all may be sent once more. `by` is who does it. Resolves when they are there.
   * Throws VEHICLE_INVALID, with the number of the vehicle; those before it may be registered then.
   */
  async register(vehicles: Iterable<unknown> | AsyncIterable<unknown>, by: string): Promise<Registered> {
    const result: Registered = { created: 0, changed: 0, unchanged: 0 };
    let number = 0;
    let chunk: unknown[] = [];
    const flush = async () => {
      const registrations = chunk.map((value, i) =>
        numbered(number - chunk.length + i + 1, () => readRegistration(value)),
      );
      chunk = [];
      await this.inTurn(async () => {
        const records: NewRecord[] = [];
        const time = this.clock();
        for (const { id, ...given } of registrations) {
          const there = this.table.registration(id);
          const same =
            there !== undefined &&
            there.signalSet === given.signalSet &&
            there.tokenSha256 === given.tokenSha256 &&
            sameAttributes(there.attributes, given.attributes);
          result[there === undefined ? 'created' : same ? 'unchanged' : 'changed']++;
          if (!same) records.push(record('io.cardan.vehicle.registered', id, time, { ...given, by }));
        }
        await this.options.log.append('vehicles', records);
        // Also lets the next chunk see this one.
        if (records.length > 0) await this.tails[0]!.caughtUp();
      });
    };
    for await (const vehicle of vehicles) {
      number++;
      if (chunk.push(vehicle) === CHUNK) await flush();
    }
    await flush();
    return result;
  }

  /** Changes what is registered of a vehicle. Resolves to how it is then. Throws VEHICLE_INVALID, VEHICLE_UNKNOWN. */
  change(id: string, value: unknown, by: string): Promise<Vehicle> {
    const change = readChange(value);
    return this.inTurn(async () => {
      const { attributes } = this.vehicle(id);
      changedAttributes(attributes, change.attributes ?? {});
      await this.append(record('io.cardan.vehicle.changed', id, this.clock(), { ...change, by }));
      return this.vehicle(id);
    });
  }

  /** Forgets a vehicle. One that says something after that appears again. Throws VEHICLE_UNKNOWN. */
  remove(id: string, by: string): Promise<void> {
    return this.inTurn(async () => {
      this.vehicle(id);
      const eventsUntil = await this.options.log.resolve('vehicle-events', 'latest');
      await this.append(record('io.cardan.vehicle.removed', id, this.clock(), { eventsUntil, by }));
    });
  }

  /** What a vehicle has said, as a record of `vehicle-events`. Resolves when it is in the log. */
  reported(record: NewRecord): Promise<void> {
    return this.options.log.append('vehicle-events', [record]);
  }

  /** Milliseconds since 1970. */
  now(): number {
    return this.clock();
  }

  async close(): Promise<void> {
    await this.writing;
    for (const tail of this.tails) await tail.close();
    this.pollTimes.write();
    this.file.close();
  }

  private apply({ topic, partition, records }: Batch): void {
    const last = records.at(-1);
    if (last === undefined) return;
    // After a failure a batch comes again.
    const next = this.file.position(topic)[partition] ?? 0;
    this.lastPolling = undefined;
    this.file.transaction(() => {
      for (const record of records) {
        if (record.offset < next) continue;
        try {
          if (topic === 'vehicles') this.said(record);
          else this.seen(partition, record);
        } catch (error) {
          if (isDatabaseError(error)) throw error;
          this.malformed++;
        }
      }
      this.file.advance(topic, partition, last);
    });
  }

  /** What an operator said. */
  private said(record: LogRecord): void {
    const event = recordToEvent(record);
    const id = checkVehicleId(record.key ?? '');
    if (isEvent(event, 'io.cardan.vehicle.registered')) {
      const { attributes, signalSet, tokenSha256 } = event.data;
      this.table.registered(
        id,
        record.timestamp,
        readRegistration({ id, attributes, signalSet, tokenSha256 }),
      );
    } else if (isEvent(event, 'io.cardan.vehicle.changed')) {
      const { attributes, signalSet, tokenSha256 } = event.data;
      this.table.changed(id, readChange({ attributes, signalSet, tokenSha256 }));
    } else if (isEvent(event, 'io.cardan.vehicle.removed'))
      this.table.removed(id, { eventsUntil: offsetsIn(event.data.eventsUntil) });
    else return;
    this.counted = undefined;
    this.changedIds.add(id);
  }

  /** What the vehicle itself said. */
  private seen(partition: number, record: LogRecord): void {
    const id = checkVehicleId(record.key ?? '');
    // A clock that is ahead must not make a silent car look alive.
    const seen: Seen = { partition, offset: record.offset, at: Math.min(record.timestamp, this.clock()) };
    // Only those that tell something are parsed.
    if (TELLING.has(record.headers.ce_type ?? '')) {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.vehicle.boot')) seen.signalSet = text(event.data.signalSet);
      else if (isEvent(event, 'io.cardan.vehicle.status')) seen.online = event.data.online === true;
      else if (isEvent(event, 'io.cardan.vehicle.reported')) {
        const { observedGeneration, active, candidate, phase, error, signalSet, agent } = event.data;
        seen.signalSet = text(signalSet);
        if (!Number.isSafeInteger(observedGeneration)) throw new TypeError('no generation');
        seen.reported = {
          observedGeneration,
          active: refOf(active),
          candidate: refOf(candidate),
          phase: String(phase),
          error: error == null ? null : { code: String(error.code), message: String(error.message) },
          agentVersion: typeof agent?.version === 'string' ? agent.version : null,
        };
      }
    }
    if (!this.table.seen(id, seen)) return;
    this.counted = undefined;
    this.changedIds.add(id);
  }

  private settle(): void {
    if (this.changedIds.size === 0) return;
    const changed = this.changedIds;
    this.changedIds = new Set();
    for (const listener of this.listeners) listener(changed);
  }

  private async append(record: NewRecord): Promise<void> {
    await this.options.log.append('vehicles', [record]);
    await this.tails[0]!.caughtUp();
  }

  private inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.writing.then(task);
    this.writing = result.catch(() => {});
    return result;
  }
}

type FleetEvent = 'io.cardan.vehicle.registered' | 'io.cardan.vehicle.changed' | 'io.cardan.vehicle.removed';

function record<K extends FleetEvent>(type: K, id: string, time: number, data: EventData[K]): NewRecord {
  return eventToRecord(id, cloudEvent(type, { source: SOURCE, id: randomUUID(), time }, data));
}

/** Says which of many it is that cannot be read. */
function numbered<T>(number: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CardanError)) throw error;
    throw new CardanError(error.code, `Vehicle ${number}: ${error.message}`, { cause: error });
  }
}

function unknown(id: string): CardanError {
  return new CardanError('VEHICLE_UNKNOWN', `There is no vehicle ${id}. Check its id, or register it first.`);
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('no signal set');
  return value;
}

function refOf(ref: ModelRef | null | undefined): ModelRef | null {
  return ref == null ? null : { name: String(ref.name), version: String(ref.version) };
}

function offsetsIn(value: Record<number, number>): Record<number, number> {
  if (typeof value !== 'object' || !Object.values(value).every(Number.isSafeInteger))
    throw new TypeError('no offsets');
  return value;
}

function isDatabaseError(error: unknown): boolean {
  return error instanceof Error && error.name === 'SqliteError';
}
