import {
  CardanError,
  decodeScores,
  decodeTelemetry,
  isEvent,
  parseSignalSet,
  recordToEvent,
  SequenceDeduplicator,
  type CloudEvent,
  type LogTopic,
  type ModelRef,
  type SignalSet,
} from '@cardan/shared';
import type { LogRecord } from '@cardan/shared/event-log';
import { AlarmList } from './alarm-list.ts';
import { ClusterView } from './cluster-view.ts';
import { EventFields } from './event-fields.ts';
import type { Delta, LogState, Summary, VehicleTile } from './messages.ts';
import { keyOf, ModelHistory } from './model-history.ts';
import { jsonNumber, MemoryBudget, Series } from './series.ts';
import { isAfter, VehicleView, type Turn } from './vehicle-view.ts';

export interface ProjectionLimits {
  /** Vehicles that are kept; those from which nothing came for longest go first. */
  vehiclesMax: number;
  /** Bytes for the rows of all vehicles: 600 rows of 24 signals take 66 kB. */
  seriesBytesMax: number;
}

const LIMITS: ProjectionLimits = { vehiclesMax: 20_000, seriesBytesMax: 256 * 1024 * 1024 };
/** When there are too many vehicles so many go at once, as every page must then be told everything anew. */
const FORGET_PART = 0.01;
const SIGNAL_SETS_MAX = 1000;
const SIGNAL_SETS_TOLD = 50;
const DEAD_LETTERS_MAX = 20;
/** Numbers of models in the series are 16 bits wide; 0 is none. */
const MODEL_NUMBERS_MAX = 65_535;
const SIGNALS_BLAMED_MAX = 8;

/**
 * The picture of the fleet, made from the log's records alone: it can be thrown away and made again. Pure:
 * no clock, no I/O. Everything that changes gets a revision, so that a page can be told what is new to it.
 */
export class FleetProjection {
  /** Grows with every change. Above 0, which stands for having seen nothing. */
  revision = 1;
  /** In order of their last change, the newest last. */
  private readonly vehicles = new Map<string, VehicleView>();
  private readonly alarms = new AlarmList();
  private readonly models = new ModelHistory();
  private readonly clusters = new ClusterView();
  private readonly signalSets = new Map<string, SignalSet>();
  private readonly deadLetters: LogState['deadLetters'] = [];
  private readonly modelNumbers = new Map<string, number>();
  private readonly modelRefs: (ModelRef | null)[] = [null];
  private readonly rowsSeen = new SequenceDeduplicator();
  private readonly scoresSeen = new SequenceDeduplicator();
  private readonly eventsSeen = new SequenceDeduplicator();
  private readonly limits: ProjectionLimits;
  private readonly budget: MemoryBudget;
  private installed = new Map<string, number>();
  private modelsRevision = 0;
  private clustersRevision = 0;
  /** Who has seen less than this has seen vehicles that are no longer kept. */
  private forgottenRevision = 0;

  /** Records and rows of `telemetry` that were read, duplicates included; `liveRows` are those after the past. */
  readonly read = { records: 0, rows: 0, liveRows: 0 };
  readonly unreadable: { records: number; last: string | null } = { records: 0, last: null };
  /** Vehicles that had to go. */
  forgotten = 0;

  constructor(limits: Partial<ProjectionLimits> = {}) {
    this.limits = { ...LIMITS, ...limits };
    this.budget = new MemoryBudget(this.limits.seriesBytesMax);
  }

  /** Rows that came more than once. */
  get duplicates(): number {
    return this.rowsSeen.dropped;
  }

  /**
   * Takes in records of a topic, in order per partition. What cannot be read is counted and left out.
   * @param now clock of the monitor, milliseconds since 1970
   * @param live false for the log's past: it says nothing of whether a car is there now
   */
  apply(topic: LogTopic, records: readonly LogRecord[], now: number, live: boolean): void {
    for (const record of records) {
      try {
        this.take(topic, record, now, live);
      } catch (error) {
        if (!(error instanceof CardanError)) throw error;
        this.unreadable.records++;
        this.unreadable.last = `${topic} offset ${record.offset}: ${error.message}`;
      }
    }
  }

  /** What follows from the time that has passed: cars fall silent, versions are counted. About once a second. */
  settle(now: number): void {
    const installed = new Map<string, number>();
    for (const vehicle of [...this.vehicles.values()]) {
      if (vehicle.shown !== vehicle.state(now)) this.touch(vehicle, now);
      const { model } = vehicle;
      if (model !== null) installed.set(keyOf(model), (installed.get(keyOf(model)) ?? 0) + 1);
    }
    const same =
      installed.size === this.installed.size &&
      [...installed].every(([key, count]) => this.installed.get(key) === count);
    if (same) return;
    this.installed = installed;
    this.modelsRevision = ++this.revision;
  }

  /** Counts over all vehicles; the log's part of the summary is added by who reads the log. */
  summary(
    now: number,
  ): Pick<
    Summary,
    'fleetTime' | 'vehicles' | 'online' | 'learning' | 'alarms' | 'upToDate' | 'decided' | 'now'
  > {
    const counts = {
      vehicles: this.vehicles.size,
      online: 0,
      learning: 0,
      alarms: 0,
      upToDate: 0,
      decided: 0,
    };
    const [times, timesOfAll]: [number[], number[]] = [[], []];
    for (const vehicle of this.vehicles.values()) {
      const online = vehicle.online(now);
      if (online) counts.online++;
      if (vehicle.model === null) counts.learning++;
      if (vehicle.alarm !== null) counts.alarms++;
      if (vehicle.time !== null) (online ? times : timesOfAll).push(vehicle.time);
      const decided = this.models.decidedFor(vehicle.signalSet);
      if (decided === undefined) continue;
      counts.decided++;
      if (vehicle.model !== null && keyOf(vehicle.model) === keyOf(decided)) counts.upToDate++;
    }
    return { now, fleetTime: median(times.length > 0 ? times : timesOfAll), ...counts };
  }

  /**
   * What changed after a revision, as the fields of one JSON object, without its braces; '' for nothing. All
   * of it after revision 0, or when vehicles have been forgotten since: `complete` says so.
   */
  changes(since: number, now: number): { json: string; complete: boolean } {
    const complete = since === 0 || since < this.forgottenRevision;
    const after = complete ? -1 : since;
    const fields: string[] = [];
    const tiles: string[] = [];
    for (const vehicle of this.vehicles.values())
      if (vehicle.revision > after)
        tiles.push(vehicle.tileJson(now, this.models.threshold(vehicle.scoredBy)));
    if (tiles.length > 0 || complete) fields.push(`"vehicles":[${tiles.join(',')}]`);
    const add = (part: Omit<Delta, 'summary'>) => fields.push(JSON.stringify(part).slice(1, -1));
    const alarms = this.alarms.since(after);
    if (alarms.length > 0 || complete) add({ alarms });
    if (this.clustersRevision > after || complete) add({ clusters: this.clusters.list() });
    if (this.modelsRevision > after || complete)
      add({ ...this.listModels(), signalSets: this.signalNames() });
    return { json: fields.join(','), complete };
  }

  /** All vehicles, by id. */
  tiles(now: number): VehicleTile[] {
    return [...this.vehicles.values()]
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .map((vehicle) => vehicle.toTile(now, this.models.threshold(vehicle.scoredBy)));
  }

  listModels() {
    return {
      models: this.models.listModels(this.installed),
      trainings: this.models.listTrainings(),
    };
  }

  /** Names by set; a fleet has a handful of sets, and pages are told no more than these of the newest. */
  private signalNames(): Record<string, string[]> {
    const newest = [...this.signalSets.values()].slice(-SIGNAL_SETS_TOLD);
    return Object.fromEntries(newest.map(({ id, signals }) => [id, signals.map(({ name }) => name)]));
  }

  /** The newest messages that the bridge could not read. */
  listDeadLetters(): LogState['deadLetters'] {
    return [...this.deadLetters].reverse();
  }

  /**
   * One vehicle with its signals and scores, from the row numbers `rows` and `cloud` on; those are the `to`
   * of the answer before. Undefined when the vehicle is not known.
   */
  vehicle(id: string, now: number, since: { rows?: number; cloud?: number } = {}) {
    const vehicle = this.vehicles.get(id);
    if (vehicle === undefined) return undefined;
    const { signalSet: setId } = vehicle;
    const threshold = (model: number) =>
      jsonNumber(this.models.threshold(this.modelRefs[model] ?? null) ?? Number.NaN);
    const { models, ...rows } = (vehicle.rows ?? new Series(0, this.budget)).part(since.rows);
    const cloud = (vehicle.cloud ?? new Series(0, this.budget)).part(since.cloud);
    return {
      vehicle: {
        ...vehicle.toTile(now, this.models.threshold(vehicle.scoredBy)),
        reported: vehicle.reported,
        scoredBy: vehicle.scoredBy,
        score: jsonNumber(vehicle.score),
        threshold: this.models.threshold(vehicle.scoredBy) ?? null,
        decided: this.models.decidedFor(setId) ?? null,
      },
      signalSet: setId === null ? null : this.signalSet(setId, rows.columns.length),
      alarms: vehicle.alarms,
      rows: { ...rows, thresholds: models.map(threshold) },
      cloud: { from: cloud.from, to: cloud.to, times: cloud.times, scores: cloud.scores },
    };
  }

  private take(topic: LogTopic, record: LogRecord, now: number, live: boolean): void {
    if (topic === 'dead-letters') return this.takeDeadLetter(record);
    if (topic === 'campaigns' || topic === 'vehicles') return;
    if (topic === 'telemetry') this.read.records++;
    // A tombstone, or a record without a car: nothing to show.
    if (record.key === null || record.value === null) return;
    if (topic === 'telemetry') this.takeTelemetry(record.key, record.value, now, live);
    else if (topic === 'predictions') this.takeScores(record.key, record.value, now);
    else if (topic === 'vehicle-events') this.takeVehicleEvent(record.key, recordToEvent(record), now, live);
    else if (topic === 'clusters') {
      if (this.clusters.take(recordToEvent(record))) this.clustersRevision = ++this.revision;
    } else if (topic === 'signal-sets') {
      const set = parseSignalSet(recordToEvent(record).data);
      this.signalSets.set(set.id, set);
      if (this.signalSets.size > SIGNAL_SETS_MAX)
        this.signalSets.delete(this.signalSets.keys().next().value ?? '');
      this.modelsRevision = ++this.revision;
    } else {
      const event = recordToEvent(record);
      this.models.take(event);
      this.modelsRevision = ++this.revision;
      // Thresholds and what is up to date may be others now.
      if (isEvent(event, 'io.cardan.model.published'))
        for (const vehicle of [...this.vehicles.values()]) this.touch(vehicle, now);
    }
  }

  private takeTelemetry(id: string, value: Buffer, now: number, live: boolean): void {
    const batch = decodeTelemetry(value);
    const count = batch.times.length;
    this.read.rows += count;
    if (live) this.read.liveRows += count;
    const signals = batch.values.length / count;
    const vehicle = this.vehicleOf(id, now);
    if (live) vehicle.heardAt = now;
    // The page shows the regular rows; a campaign's have other columns and another pace.
    if (batch.campaign !== undefined) {
      this.rowsSeen.skip(id, batch.epoch, batch.firstSequence, count);
      this.touch(vehicle, now);
      return;
    }
    if (vehicle.signalSet !== batch.signalSet || vehicle.rows?.signals !== signals) {
      vehicle.signalSet = batch.signalSet;
      vehicle.rows?.release();
      vehicle.rows = new Series(signals, this.budget, vehicle.rows?.total);
    }
    const { rows } = vehicle;
    const model = batch.modelName === '' ? null : { name: batch.modelName, version: batch.modelVersion };
    const modelNumber = this.modelNumber(model);
    if (!rows.reserve() && this.makeRoom(vehicle)) rows.reserve();
    for (const [from, to] of this.rowsSeen.fresh(id, batch.epoch, batch.firstSequence, count)) {
      for (let row = from; row < to; row++) {
        const time = batch.times[row]!;
        const score = batch.scores[row] ?? Number.NaN;
        rows.push(time, score, modelNumber, batch.values, row * signals);
        vehicle.rowsRead++;
        // Late rows fill the series; the newest row stays what it was.
        if (vehicle.time !== null && time < vehicle.time) continue;
        vehicle.time = time;
        vehicle.score = score;
        vehicle.scoredBy = model;
      }
    }
    this.touch(vehicle, now);
  }

  private takeScores(id: string, value: Buffer, now: number): void {
    const batch = decodeScores(value);
    const vehicle = this.vehicleOf(id, now);
    vehicle.cloud ??= new Series(0, this.budget);
    if (!vehicle.cloud.reserve() && this.makeRoom(vehicle)) vehicle.cloud.reserve();
    const model = this.modelNumber({ name: batch.modelName, version: batch.modelVersion });
    for (const [from, to] of this.scoresSeen.fresh(id, batch.epoch, batch.firstSequence, batch.times.length))
      for (let row = from; row < to; row++)
        vehicle.cloud.push(batch.times[row]!, batch.scores[row]!, model, NO_VALUES, 0);
  }

  private takeVehicleEvent(id: string, event: CloudEvent, now: number, live: boolean): void {
    const { outboxepoch, sequence } = event;
    if (outboxepoch !== undefined && sequence !== undefined)
      if (this.eventsSeen.fresh(id, Number(outboxepoch), Number(sequence), 1).length === 0) return;
    const vehicle = this.vehicleOf(id, now);
    const fields = new EventFields(event.data);
    const time = Date.parse(event.time);
    const turn = { time, epoch: Number(outboxepoch), sequence: Number(sequence) };
    if (isEvent(event, 'io.cardan.vehicle.anomaly')) this.takeAnomaly(vehicle, fields, turn);
    else if (isEvent(event, 'io.cardan.vehicle.reported')) {
      const agent = fields.object('agent');
      const [dropped, frames] = [agent.object('dropped'), agent.object('frames')];
      const phase = fields.text('phase');
      vehicle.signalSet ??= fields.text('signalSet');
      vehicle.reported = {
        active: fields.model('active'),
        phase: phase === 'updating' || phase === 'failed' ? phase : 'idle',
        error: fields.isNull('error')
          ? null
          : `${fields.object('error').text('code')}: ${fields.object('error').text('message')}`,
        agent: agent.text('version'),
        outboxRows: agent.number('outboxRows'),
        dropped: { rows: dropped.number('rows'), events: dropped.number('events') },
        frames: {
          received: frames.number('received'),
          unknown: frames.number('unknown'),
          malformed: frames.number('malformed'),
        },
      };
    } else if (isEvent(event, 'io.cardan.vehicle.status')) vehicle.saidOnline = fields.flag('online');
    else if (isEvent(event, 'io.cardan.vehicle.boot')) this.takeBoot(vehicle, turn);
    // The last will is the broker's word, not the car's; the others come from the car.
    if (live && vehicle.saidOnline !== false) vehicle.heardAt = now;
    this.touch(vehicle, now);
  }

  /** The new run cannot clear an alarm of the old one. */
  private takeBoot(vehicle: VehicleView, turn: Turn): void {
    vehicle.addTurn(turn);
    const { alarm, alarmTurn } = vehicle;
    if (alarm === null || (alarmTurn !== null && isAfter(alarmTurn, turn))) return;
    this.alarms.end(alarm, turn.time, this.revision + 1);
    vehicle.alarm = null;
  }

  private takeAnomaly(vehicle: VehicleView, fields: EventFields, turn: Turn): void {
    const { time } = turn;
    const state = fields.text('state') === 'raised' ? 'raised' : 'cleared';
    const change = {
      vehicle: vehicle.id,
      alarm: fields.text('alarm'),
      state,
      time,
      model: fields.model('model') ?? { name: '', version: '' },
      score: fields.number('score'),
      threshold: fields.number('threshold'),
      signals: fields.list('signals', SIGNALS_BLAMED_MAX, (signal) => ({
        name: signal.text('name'),
        part: signal.number('part'),
      })),
    } as const;
    // `touch`, which follows, takes the next revision.
    const { alarm, isNew } = this.alarms.take(change, this.revision + 1);
    if (isNew) vehicle.addAlarm(alarm);
    if (state === 'cleared') {
      if (vehicle.alarm?.key === alarm.key) vehicle.alarm = null;
      return;
    }
    const next = vehicle.turnAfter(turn);
    vehicle.addTurn(turn);
    if (alarm.clearedAt !== null) return;
    if (next !== undefined) {
      this.alarms.end(alarm, Math.max(time, next.time), this.revision + 1);
      return;
    }
    vehicle.alarm = alarm;
    vehicle.alarmTurn = turn;
  }

  private takeDeadLetter({ timestamp, headers }: LogRecord): void {
    this.deadLetters.push({
      time: timestamp,
      topic: (headers['mqtt-topic'] ?? '').slice(0, 200),
      code: headers['error-code'] ?? '',
      message: (headers['error-message'] ?? '').slice(0, 500),
    });
    if (this.deadLetters.length > DEAD_LETTERS_MAX) this.deadLetters.shift();
  }

  private vehicleOf(id: string, now: number): VehicleView {
    const known = this.vehicles.get(id);
    if (known !== undefined) return known;
    if (this.vehicles.size >= this.limits.vehiclesMax) this.forget();
    const vehicle = new VehicleView(id, now);
    this.vehicles.set(id, vehicle);
    return vehicle;
  }

  private forget(): void {
    const count = Math.max(1, Math.floor(this.limits.vehiclesMax * FORGET_PART));
    for (const [id, vehicle] of [...this.vehicles].slice(0, count)) {
      vehicle.rows?.release();
      vehicle.cloud?.release();
      this.vehicles.delete(id);
      this.forgotten++;
    }
    this.forgottenRevision = ++this.revision;
  }

  /** Takes the rows of the vehicle that changed longest ago. */
  private makeRoom(forVehicle: VehicleView): boolean {
    for (const vehicle of this.vehicles.values()) {
      if (vehicle === forVehicle || (vehicle.rows?.bytes ?? 0) === 0) continue;
      vehicle.rows?.release();
      return true;
    }
    return false;
  }

  private touch(vehicle: VehicleView, now: number): void {
    vehicle.revision = ++this.revision;
    vehicle.shown = vehicle.state(now);
    this.vehicles.delete(vehicle.id);
    this.vehicles.set(vehicle.id, vehicle);
  }

  private modelNumber(model: ModelRef | null): number {
    if (model === null) return 0;
    const known = this.modelNumbers.get(keyOf(model));
    if (known !== undefined) return known;
    if (this.modelRefs.length > MODEL_NUMBERS_MAX) return 0;
    this.modelRefs.push(model);
    this.modelNumbers.set(keyOf(model), this.modelRefs.length - 1);
    return this.modelRefs.length - 1;
  }

  /** A set that nobody has described yet gets numbered columns: rows may come before their description. */
  private signalSet(id: string, columns: number): SignalSet {
    return (
      this.signalSets.get(id) ??
      this.models.signalsOf(id) ?? {
        id,
        signals: Array.from({ length: columns }, (_, i) => ({ name: `Signal ${i + 1}`, unit: '' })),
      }
    );
  }
}

const NO_VALUES = new Float32Array(0);

function median(values: number[]): number | null {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? null;
}
