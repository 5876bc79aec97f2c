import { CardanError } from './errors.ts';
import type { LoopEventData } from './loop-events.ts';
import type { HeldBack, ModelManifest, ModelRef } from './model/manifest.ts';
import type { MomentsData } from './moments.ts';
import type { QuantileSketchData } from './quantile-sketch.ts';
import type { RolloutEventData } from './rollout-events.ts';
import type { SignalSet } from './signal-set.ts';

/**
 * CloudEvents 1.0. On MQTT and HTTP an event is one JSON object (structured mode); in the log its attributes
 * are `ce_*` headers and the value is the data alone (binary mode, as in the Kafka protocol binding).
 */
export interface CloudEvent<T = unknown> {
  specversion: '1.0';
  type: string;
  /** `/vehicles/{vehicle}` or `/services/{service}`. */
  source: string;
  /** Unique for the source. From a car: `{outbox epoch}-{sequence}`. */
  id: string;
  /** RFC 3339. */
  time: string;
  datacontenttype?: 'application/json';
  /** Extensions, set by cars: with the source they name the event for good, so that readers drop copies. */
  outboxepoch?: string;
  sequence?: string;
  data: T;
}

/** Types of events, with the type of their data. */
export interface EventData extends RolloutEventData, LoopEventData {
  // ── topic vehicle-events, key = vehicle ──
  'io.cardan.vehicle.boot': VehicleBoot;
  'io.cardan.vehicle.anomaly': VehicleAnomaly;
  'io.cardan.vehicle.shadow': VehicleShadow;
  'io.cardan.vehicle.model-stopped': VehicleModelStopped;
  'io.cardan.vehicle.reported': VehicleReported;
  'io.cardan.vehicle.status': { online: boolean };
  'io.cardan.vehicle.trouble-codes': VehicleTroubleCodes;
  'io.cardan.vehicle.identified': { vin: string };
  'io.cardan.vehicle.campaign-triggered': CampaignTriggered;
  'io.cardan.vehicle.can-frames': CanFrames;
  // ── topic vehicles, key = vehicle ──
  'io.cardan.vehicle.registered': VehicleRegistered;
  'io.cardan.vehicle.changed': VehicleChanged;
  'io.cardan.vehicle.removed': VehicleRemoved;
  // ── topic signal-sets, key = id ──
  'io.cardan.signal-set': SignalSet;
  // ── topic models, key = model name ──
  'io.cardan.training.requested': TrainingRequested;
  'io.cardan.training.started': TrainingStarted;
  'io.cardan.training.progress': TrainingProgress;
  'io.cardan.training.completed': TrainingCompleted;
  'io.cardan.training.failed': TrainingFailed;
  'io.cardan.model.published': ModelPublished;
  'io.cardan.model.alias-set': ModelAliasSet;
  'io.cardan.model.tagged': ModelTagged;
  'io.cardan.rollout.decided': RolloutDecided;
  // ── topic clusters, key = signal set, or vehicle ──
  'io.cardan.clusters.learned': ClustersLearned;
  'io.cardan.vehicle.cluster-assigned': VehicleClusterAssigned;
  // ── topic campaigns, key = campaign id ──
  'io.cardan.campaign.published': CampaignPublished;
  'io.cardan.campaign.withdrawn': CampaignWithdrawn;
}
export type EventType = keyof EventData;

export interface VehicleBoot {
  agent: string;
  signalSet: string;
}

/** All trouble codes that one control unit has now. Sent when they change, and once after each start. */
export interface VehicleTroubleCodes {
  /** How they were asked for; `j1939`: not asked for, but heard (DM1). */
  source: 'obd' | 'uds' | 'j1939';
  /** The control unit: the CAN id that it answers with, for instance 0x7E8; its address for J1939. */
  unit: number;
  /** Empty: none any more. */
  codes: VehicleTroubleCode[];
  /** Lamps that are on, for J1939. */
  lamps?: string[];
}

export interface VehicleTroubleCode {
  /** `P0301` (obd), `P0301-1A` (uds), `SPN 110 FMI 0` (j1939). */
  code: string;
  /** `stored` (obd), the bits of ISO 14229-1 by name (uds), `active` (j1939). */
  status: string[];
  /** How often it was, where that is known. */
  occurrences?: number;
}

/** An alarm of the model in the car begins or ends. Times are the data's own. */
export interface VehicleAnomaly {
  state: 'raised' | 'cleared';
  /** Same for the raised and the cleared event of one alarm. */
  alarm: string;
  model: ModelRef;
  score: number;
  threshold: number;
  /** Signals by their part in the score, largest first; parts add up to 1. */
  signals: { name: string; part: number }[];
}

/** The condition of a campaign began to hold; its rows are in `telemetry`. The event's time is that of the frame. */
export interface CampaignTriggered {
  campaign: string;
  version: string;
}

/** Raw frames that a campaign asked for. The event's time is that of the first. */
export interface CanFrames {
  campaign: string;
  version: string;
  frames: number;
  /** One line a frame, as `candump -L` writes them. */
  candump: string;
}

/**
 * What a second model, which scores silently beside the active one, did in one period. Only what was new in the
 * period: n, rows and alarms of several periods and cars add up, moments by `Moments.add`, sketches by
 * `QuantileSketch.add`. A period ends after some minutes of rows, when either model changes, and when the agent
 * stops; what a crash takes is at most one period. The event's time is that of the last row.
 */
export interface VehicleShadow {
  model: ModelRef;
  /** The model that scored for real; null while there was none. */
  active: ModelRef | null;
  /** Times of the first and last row of the period (RFC 3339). */
  from: string;
  to: string;
  rows: number;
  /** Of these, rows without a score because the windows were filling. */
  nan: number;
  score: MomentsData & { sketch: QuantileSketchData };
  /** Score of this model − score of the active one, over the rows where both had one. */
  difference: MomentsData;
  /** That it would have raised. */
  alarms: number;
  /** Of one row, in microseconds. The two quantiles are to read; the sketch is to add up. */
  latency: { p50: number; p99: number; sketch: QuantileSketchData };
}

/** A model was stopped in the car because of how it ran. The last good one goes on. */
export interface VehicleModelStopped {
  model: ModelRef;
  role: 'active' | 'shadow';
  code: 'MODEL_THREW' | 'MODEL_NOT_FINITE' | 'MODEL_TOO_SLOW' | 'MODEL_CRASH_LOOP' | 'SELF_TEST_FAILED';
  message: string;
}

/** What the cloud wants of a vehicle: a hint; what counts is the signed metadata. */
export interface VehicleDesired {
  /** Grows with every change; a car ignores one that is not newer than what it has seen. */
  generation: number;
  active: ModelRef | null;
  /** Scores silently beside the active one; null or absent: none does. */
  candidate?: ModelRef | null;
  /** What it should collect; absent where no campaign was ever for it. The car judges its attributes by itself. */
  campaigns?: CampaignRef[];
}

export interface CampaignRef {
  id: string;
  version: string;
}

/** What became of a campaign in the car; with the id `*` what is wrong with all of them. */
export interface CampaignReport extends CampaignRef {
  /**
   * `waiting` for its start, `active`, `expired`; `failed`: it could not be fetched yet and is tried again;
   * `refused`: this car cannot use it, and does not try again.
   */
  phase: 'waiting' | 'active' | 'expired' | 'failed' | 'refused';
  error: { code: string; message: string } | null;
}

/** What a car says of itself, after every change. */
export interface VehicleReported {
  /** When it was said, by the car's clock (RFC 3339). */
  time: string;
  observedGeneration: number;
  active: ModelRef | null;
  /** The model that scores silently; absent from agents that know of none. */
  candidate?: ModelRef | null;
  phase: 'idle' | 'updating' | 'failed';
  error: { code: string; message: string } | null;
  /** Absent while it has none. A campaign in trouble leaves `phase` and `error` above, which are the model's, alone. */
  campaigns?: CampaignReport[];
  signalSet: string;
  agent: {
    version: string;
    /** Rows that are in the outbox and not yet acknowledged. */
    outboxRows: number;
    /** Losses since the outbox was created; all stay 0 in a healthy car. */
    dropped: { rows: number; events: number };
    /** The same by campaign, those with losses only; what belongs to none is under the empty name. */
    droppedBy?: Record<string, { rows: number; events: number }>;
    /** Since boot: rows sampled, seconds of CPU, bytes in RAM now; and bytes of the outbox on disk. As in its metrics. */
    rows?: number;
    cpuSeconds?: number;
    memoryBytes?: number;
    outboxFileBytes?: number;
    /** Of the newest row; null while no model scores. */
    score?: number | null;
    alarmActive?: boolean;
    /** CAN frames since boot. */
    frames: { received: number; unknown: number; malformed: number };
    /** The same of each bus, by the name that the car has for it. */
    buses?: Record<
      string,
      {
        /** `closed`, `open`, `error-warning`, `error-passive` or `bus-off`. */
        state: string;
        received: number;
        malformed: number;
        dropped: number;
        errors: number;
      }
    >;
  };
}

/** An operator has registered the vehicle. What an earlier registration said is replaced. */
export interface VehicleRegistered {
  attributes: Record<string, string>;
  /** The columns that it will send, if that is known; what the car says itself counts more. */
  signalSet?: string;
  /** SHA-256 of the token that the car shows (hex); absent: it has none. */
  tokenSha256?: string;
  /** Who did it. */
  by?: string;
}

/** Some of what is registered is different now; what is absent stays as it was. */
export interface VehicleChanged {
  /** null takes the attribute away. */
  attributes?: Record<string, string | null>;
  signalSet?: string | null;
  tokenSha256?: string | null;
  by?: string;
}

/** The vehicle is not of the fleet any more. */
export interface VehicleRemoved {
  /**
   * Ends of `vehicle-events` when it was removed, per partition: what the car said before counts no more. The two topics
   * have no common order, and a replay must end in the same state.
   */
  eventsUntil: Record<number, number>;
  by?: string;
}

/** How the vehicles of a signal set drive, as far as it has been learned; replaces what was said before. */
export interface ClustersLearned {
  signalSet: string;
  /** Per driving state the mean of each signal, in the order of the set, and the windows of rows that it stands for. */
  states: { center: number[]; windows: number }[];
  /** Per cluster of vehicles the share of time in each driving state, and the vehicles in it. */
  clusters: { shares: number[]; vehicles: number }[];
}

/** A vehicle drives like those of this cluster now. */
export interface VehicleClusterAssigned {
  signalSet: string;
  /** Index in the clusters of the signal set. */
  cluster: number;
  /** null: it was in none. */
  before: number | null;
  /** Its share of time in each driving state. */
  shares: number[];
}

export interface TrainingRequested {
  training: string;
  /** Only this signal set; null for all that have rows. */
  signalSet: string | null;
  reason: string;
  /** Who asked for it; as in all events, absent from those of version 0.1. */
  actor?: string;
  /** Which trainer, by the name of its group; the one of the default group without it. */
  group?: string;
  /** Only rows from `from` on and before `to` (RFC 3339); without it the trainer's whole span. */
  times?: { from: string | null; to: string | null };
  /** Vehicles that stay out, so that the model can be judged on them. */
  heldBack?: HeldBack;
  /** Publish it as a trial: see `ModelPublished`. */
  trial?: boolean;
}

export interface TrainingStarted {
  training: string;
  /** Name of the model that will come out. */
  model: string;
  signalSet: string;
  reason: string;
  /** Rows and vehicles that go in. */
  rows: number;
  vehicles: number;
  epochs: number;
}

export interface TrainingProgress {
  training: string;
  /** 1-based. */
  epoch: number;
  epochs: number;
  /** Mean squared error of the standardised features, in training and on held-back rows. */
  loss: number;
  validationLoss: number;
  rowsPerSecond: number;
}

export interface TrainingCompleted {
  training: string;
  model: string;
  version: string;
  rows: number;
  threshold: number;
  seconds: number;
}

export interface TrainingFailed {
  training: string;
  model: string;
  code: string;
  message: string;
}

export interface ModelPublished {
  manifest: ModelManifest;
  /** SHA-256 of manifest.json, as it is stored and signed. */
  manifestSha256: string;
  actor?: string;
  /** It is to be judged first: no alias names it and no car gets it until somebody says so. */
  trial?: boolean;
}

/** From now on the alias names this version of the model; what it named before it names no more. */
export interface ModelAliasSet {
  name: string;
  /** `champion`, `candidate`, or a name of one's own. */
  alias: string;
  /** null: it names none any more. */
  version: string | null;
  /** Who asked for it; a service by its source, `/services/registry`. */
  actor: string;
}

/** Tags of a version were set or, with null, taken away; others stay as they are. */
export interface ModelTagged {
  name: string;
  version: string;
  tags: Record<string, string | null>;
  /** Who asked for it. */
  actor: string;
}

/** Vehicles with this signal set should run this model from now on. */
export interface RolloutDecided {
  generation: number;
  signalSet: string;
  active: ModelRef;
}

/** From now on this version is what the vehicles that it names should collect; one before it is replaced. */
export interface CampaignPublished {
  generation: number;
  /** As the cars get it: the file that is signed is the JSON of this, without spaces. */
  document: unknown;
  actor?: string;
}

/** No car collects it any more. */
export interface CampaignWithdrawn {
  generation: number;
  id: string;
  actor?: string;
}

/** Makes an event. `id` must be unique for the source. */
export function cloudEvent<K extends EventType>(
  type: K,
  attributes: { source: string; id: string; time: number },
  data: EventData[K],
): CloudEvent<EventData[K]> {
  const { source, id, time } = attributes;
  return {
    specversion: '1.0',
    type,
    source,
    id,
    time: new Date(time).toISOString(),
    datacontenttype: 'application/json',
    data,
  };
}

/** Parses an event in structured mode and checks the attributes that CloudEvents requires. */
export function parseCloudEvent(json: string | Uint8Array): CloudEvent {
  const bad = (why: string, cause?: unknown) =>
    new CardanError('EVENT_MALFORMED', `Not a CloudEvents 1.0 JSON object: ${why}.`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(typeof json === 'string' ? json : Buffer.from(json).toString('utf8'));
  } catch (error) {
    throw bad('it is not JSON', error);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('it is not an object');
  const event = value as Record<string, unknown>;
  if (event.specversion !== '1.0') throw bad('"specversion" is not "1.0"');
  for (const attribute of ['type', 'source', 'id', 'time'])
    if (typeof event[attribute] !== 'string' || event[attribute] === '')
      throw bad(`"${attribute}" is not a string with text`);
  for (const attribute of ['outboxepoch', 'sequence'])
    if (event[attribute] !== undefined && typeof event[attribute] !== 'string')
      throw bad(`"${attribute}" is not a string`);
  // The log has no times before 1970.
  if (!(Date.parse(event.time as string) >= 0)) throw bad('"time" is not a time from 1970 on');
  if (!('data' in event)) throw bad('it has no "data"');
  return value as CloudEvent;
}

/** Whether an event is of this type; narrows its data. The data itself is what the producer sent. */
export function isEvent<K extends EventType>(event: CloudEvent, type: K): event is CloudEvent<EventData[K]> {
  return event.type === type;
}

/** The event as a record of the log, in binary mode. */
export function eventToRecord(
  key: string,
  event: CloudEvent,
): { key: string; value: Buffer; timestamp: number; headers: Record<string, string> } {
  const headers: Record<string, string> = {
    ce_specversion: event.specversion,
    ce_type: event.type,
    ce_source: event.source,
    ce_id: event.id,
    ce_time: event.time,
    'content-type': 'application/json',
  };
  if (event.outboxepoch !== undefined) headers.ce_outboxepoch = event.outboxepoch;
  if (event.sequence !== undefined) headers.ce_sequence = event.sequence;
  return { key, value: Buffer.from(JSON.stringify(event.data)), timestamp: Date.parse(event.time), headers };
}

/** The event behind a record of the log. Throws EVENT_MALFORMED when the record is none. */
export function recordToEvent(record: {
  value: Buffer | null;
  headers: Readonly<Record<string, string>>;
}): CloudEvent {
  const { headers, value } = record;
  if (headers.ce_specversion !== '1.0' || !headers.ce_type || !headers.ce_source || !headers.ce_id)
    throw new CardanError(
      'EVENT_MALFORMED',
      'The record has no CloudEvents headers (ce_specversion, ce_type, …).',
    );
  let data: unknown = null;
  try {
    if (value !== null) data = JSON.parse(value.toString('utf8'));
  } catch (cause) {
    throw new CardanError('EVENT_MALFORMED', `The data of event ${headers.ce_id} is not JSON.`, { cause });
  }
  return {
    specversion: '1.0',
    type: headers.ce_type,
    source: headers.ce_source,
    id: headers.ce_id,
    time: headers.ce_time ?? '',
    datacontenttype: 'application/json',
    ...(headers.ce_outboxepoch === undefined ? {} : { outboxepoch: headers.ce_outboxepoch }),
    ...(headers.ce_sequence === undefined ? {} : { sequence: headers.ce_sequence }),
    data,
  };
}
