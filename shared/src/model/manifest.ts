import type { SignalSet } from '../signal-set.ts';

/**
 * `manifest.json`: everything that a car or a service needs beside the TensorFlow.js LayersModel files
 * (`model.json`, `weights.bin`), and where the model comes from.
 */
export interface ModelManifest {
  schema: 1;
  name: string;
  /** `1`, `2`, … per name. */
  version: string;
  /** RFC 3339. */
  createdAt: string;
  signalSet: SignalSet;
  engine: 'dense';
  features: FeatureSpec;
  score: ScoreSpec;
  alarm: AlarmSpec;
  files: { 'model.json': FileRef; 'weights.bin': FileRef };
  lineage: Lineage;
  /** Named figures, for example `loss`, `validation_loss`, `multiply_adds`. */
  metrics: Record<string, number>;
}

/** Names one version of a model. */
export interface ModelRef {
  name: string;
  version: string;
}

export interface FileRef {
  sha256: string;
  /** Bytes. */
  length: number;
}

/** Rows → the input vector of the network. Uses the last `windowRows` rows only, so that any reader of the
 * same rows comes to the same bits. */
export interface FeatureSpec {
  windowRows: number;
  /** A gap in time longer than this empties the window (milliseconds). */
  gapMs: number;
  /** One entry per network input, in order. */
  inputs: FeatureInput[];
  /** Standardised inputs are clipped to ±clip. */
  clip: number;
}

export interface FeatureInput {
  /** Column in the signal set. */
  signal: number;
  /** Statistic over the window. `deviation` is the population standard deviation. */
  statistic: 'mean' | 'deviation';
  /** input = (statistic − center) / scale */
  center: number;
  scale: number;
}

/** Network output → score. See `Scorer` for the formula. */
export interface ScoreSpec {
  /** Residuals are averaged over this many feature rows. */
  smoothingRows: number;
  /** Per network input: mean and spread of the smoothed residual on held-back normal rows. */
  residualCenter: number[];
  residualScale: number[];
}

/** When a score becomes an alarm. One event is one alarm (hysteresis). */
export interface AlarmSpec {
  threshold: number;
  /** Rows in succession over the threshold that raise an alarm. */
  raiseAfterRows: number;
  /** Rows in succession below `clearBelow` that clear it. */
  clearBelow: number;
  clearAfterRows: number;
}

/** What made this model. The log is immutable, so the same lineage gives the same bytes. */
export interface Lineage {
  topic: string;
  /** Per partition: first offset read, and the end (exclusive). */
  offsets: Record<string, { from: number; to: number }>;
  /** The same of `vehicle-events`, from which the alarms come that are kept out. */
  eventOffsets: Record<string, { from: number; to: number }>;
  /** Times of the first and last row that went in (RFC 3339). */
  span: { from: string; to: string };
  rows: number;
  vehicles: number;
  /** Rows that were left out because the model before alarmed on them. */
  rowsExcluded: number;
  duplicatesDropped: number;
  seed: number;
  hyperParameters: Record<string, number | string>;
  codeVersion: string;
  parent: ModelRef | null;
}
