import type { ModelRef } from '@cardan/shared';

/**
 * What the page is told, as JSON. Times are milliseconds since 1970 (UTC): data time where a car or a row is
 * spoken of, the clock of the monitor in `Summary.now` and `LogSample.time`.
 */

export type VehicleState = 'healthy' | 'learning' | 'alarm' | 'offline';

/** One car in the fleet's picture. */
export interface VehicleTile {
  id: string;
  state: VehicleState;
  online: boolean;
  /** Newest score over the threshold of the model that gave it; null without a score. */
  ratio: number | null;
  /** The same over the last rows, oldest first; each the largest of `SPARK_ROWS` rows. */
  spark: (number | null)[];
  /** The model that the car says it runs, or that gave its newest scores. */
  model: ModelRef | null;
  phase: 'idle' | 'updating' | 'failed' | null;
  signalSet: string | null;
  /** Time of the newest row. */
  time: number | null;
  /** Rows that this monitor has read. */
  rows: number;
  outboxRows: number | null;
}

export interface Alarm {
  /** Vehicle and alarm: names it for good. */
  key: string;
  vehicle: string;
  /** null when it was raised before the part of the log that was read. */
  raisedAt: number | null;
  /** null while it lasts. */
  clearedAt: number | null;
  model: ModelRef;
  score: number;
  threshold: number;
  /** Signals by their part in the score, largest first. */
  signals: { name: string; part: number }[];
}

export interface Training {
  key: string;
  state: 'requested' | 'running' | 'completed' | 'failed';
  model: string | null;
  signalSet: string | null;
  reason: string;
  rows: number | null;
  vehicles: number | null;
  epochs: number | null;
  /** Per epoch: number, loss in training, loss on held-back rows. */
  progress: [epoch: number, loss: number, validationLoss: number][];
  rowsPerSecond: number | null;
  version: string | null;
  seconds: number | null;
  threshold: number | null;
  error: string | null;
  time: number;
}

export interface PublishedModel {
  name: string;
  version: string;
  createdAt: string;
  signalSet: string;
  signals: number;
  rows: number;
  rowsExcluded: number;
  vehicles: number;
  threshold: number;
  span: { from: string; to: string };
  offsets: Record<string, { from: number; to: number }>;
  seed: number;
  codeVersion: string;
  parent: ModelRef | null;
  metrics: Record<string, number>;
  /** Cars that run it now. */
  installed: number;
  /** The newest decision for its signal set names it. */
  active: boolean;
}

/** One look at the log, per second. */
export interface LogSample {
  time: number;
  /** Rows of telemetry per second, as this monitor reads them. */
  rows: number;
  /** Records per second that came into each topic. */
  topics: Record<string, number>;
  /** Records that each consumer group has not finished. */
  lags: Record<string, number>;
}

/** How the vehicles of a signal set drive, as the learner has found. */
export interface Clusters {
  signalSet: string;
  /** Driving states: mean of each signal, in the order of the set, and windows of rows. */
  states: { center: number[]; windows: number }[];
  /** Groups of vehicles: share of time in each driving state, and how many. */
  clusters: { shares: number[]; vehicles: number }[];
}

export interface LogState {
  topics: {
    topic: string;
    partitions: number;
    /** Records that are there: latest − earliest offsets. */
    records: number;
    /** Records that were ever appended. */
    appended: number;
    perSecond: number;
    compacted: boolean;
  }[];
  groups: {
    group: string;
    topic: string;
    partitions: { partition: number; committed: number; latest: number; lag: number }[];
    lag: number;
  }[];
  deadLetters: { time: number; topic: string; code: string; message: string }[];
  /** Records that this monitor could not read, and why the last one. */
  unreadable: { records: number; last: string | null };
  /** Rows that were in the log more than once. */
  duplicates: number;
}

export interface Summary {
  now: number;
  /** The median of the newest rows' times of the cars that send. One car with a wrong clock does not move it. */
  fleetTime: number | null;
  rowsPerSecond: number;
  /** Rows in the log. Exact when the whole topic has been read, otherwise extrapolated from the records. */
  rows: number;
  rowsExact: boolean;
  vehicles: number;
  online: number;
  learning: number;
  alarms: number;
  /** Cars that run the model that was decided for them. */
  upToDate: number;
  /** Cars for whose signal set a model was decided. */
  decided: number;
  /** The log's past is still being read. */
  catchingUp: boolean;
  /** Why the log cannot be read at the moment. */
  problem: string | null;
}

export interface Snapshot {
  title: string;
  registryUrl: string | null;
  summary: Summary;
  vehicles: VehicleTile[];
  alarms: Alarm[];
  trainings: Training[];
  models: PublishedModel[];
  clusters: Clusters[];
  /** Names of the signals by id of their set, for labels. */
  signalSets: Record<string, string[]>;
  log: LogState;
  samples: LogSample[];
}

/** What changed since the message before. Vehicles and alarms replace their old state, samples are new ones. */
export type Delta = Partial<Omit<Snapshot, 'title' | 'registryUrl'>> & Pick<Snapshot, 'summary'>;
