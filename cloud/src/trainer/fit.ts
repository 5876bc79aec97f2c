import {
  CardanError,
  fuse,
  SmoothedResiduals,
  writeDense,
  type AlarmSpec,
  type DenseLayer,
  type FeatureSpec,
  type ScoreSpec,
  type SignalSet,
} from '@cardan/shared';
import { trainAutoencoder, type Autoencoder, type EpochProgress } from './autoencoder.ts';
import { chooseInputs, extractFeatures } from './feature-choice.ts';
import { HYPER_PARAMETERS, type HyperParameters } from './hyper-parameters.ts';
import { split, type Span } from './split.ts';
import type { VehicleRows } from './training-data.ts';
import { Turns } from './turns.ts';

export interface FitOptions {
  signalSet: SignalSet;
  /** The same vehicles in the same order give the same bytes. */
  vehicles: readonly VehicleRows[];
  seed: number;
  hyperParameters?: Partial<HyperParameters>;
  /** Told once, before the first epoch, how many there will be at most. */
  onData?: (epochs: number) => void | Promise<void>;
  onEpoch?: (progress: EpochProgress) => void | Promise<void>;
  signal?: AbortSignal;
}

/** What goes into a manifest, and the model's files. */
export interface Fit {
  features: FeatureSpec;
  score: ScoreSpec;
  alarm: AlarmSpec;
  modelJson: Buffer;
  weights: Buffer;
  metrics: Record<string, number>;
  hyperParameters: Record<string, number>;
}

/** Fewer make no model: a network has thousands of weights, a threshold needs a maximum that means something. */
const TRAINING_ROWS_MIN = 200;
const HELD_BACK_ROWS_MIN = 60;
/** Smallest spread of a residual, in standard deviations of its signal: resolution of sensors, not more. */
const RESIDUAL_SPREAD_MIN = 0.02;
/** Most weights of a network of default size: a car scores a row in a few microseconds. */
const WEIGHTS_MAX = 5000;
const EPOCHS_MIN = 8;
const EPOCHS_MAX = 120;

/**
 * Rows of normal driving → a model. Splits by vehicle (or by time, where there are few), chooses and
 * standardises the features, trains the autoencoder, and takes residual spread and threshold from rows that
 * the training has not seen. Everything random comes from the seed.
 *
 * Throws TRAINING_DATA_INSUFFICIENT, TRAINING_DIVERGED; the signal's reason when aborted.
 */
export async function fit(options: FitOptions): Promise<Fit> {
  const { signalSet, vehicles, seed, signal } = options;
  const parameters = { ...HYPER_PARAMETERS, ...options.hyperParameters };
  const turns = new Turns(signal);
  const signals = signalSet.signals.length;
  const { training, heldBack } = split(vehicles, parameters.heldBackPart, seed);
  const gapMs = 5 * medianPeriod(vehicles);
  const choice = await chooseInputs(training, signals, gapMs, parameters, turns);
  const features: FeatureSpec = {
    windowRows: parameters.windowRows,
    gapMs,
    inputs: choice.inputs,
    clip: parameters.clip,
  };
  const rows = await extractFeatures(training, signals, features, turns);
  const validation = await extractFeatures(heldBack, signals, features, turns);
  const width = features.inputs.length;
  const count = rows.length / width;
  if (!(
    count >= TRAINING_ROWS_MIN && validation.length / width >= HELD_BACK_ROWS_MIN + parameters.smoothingRows
  ))
    throw insufficient(`${count} rows to train on and ${validation.length / width} held back`);

  const hidden = hiddenUnits(width, parameters);
  const epochs = Math.min(EPOCHS_MAX, Math.max(EPOCHS_MIN, Math.round(parameters.rowsShown / count)));
  await options.onData?.(epochs);
  const autoencoder = await trainAutoencoder(
    rows,
    validation,
    features.inputs.map((input) => input.signal),
    { ...parameters, hidden, epochs, seed, onEpoch: options.onEpoch, turns },
  );
  const residuals = await smoothedResiduals(
    heldBack,
    signals,
    features,
    parameters.smoothingRows,
    autoencoder.layers,
    turns,
  );
  if (residuals.length < HELD_BACK_ROWS_MIN)
    throw insufficient(`${residuals.length} held-back rows without a gap`);
  const score = residualSpread(residuals, parameters.smoothingRows);
  const highest = highestScore(residuals, score);
  const threshold = parameters.thresholdFactor * highest;
  const { modelJson, weights } = writeDense(autoencoder.layers);
  return {
    features,
    score,
    alarm: {
      threshold,
      raiseAfterRows: parameters.raiseAfterRows,
      clearBelow: threshold * parameters.clearPart,
      clearAfterRows: parameters.clearAfterRows,
    },
    modelJson,
    weights,
    metrics: {
      loss: autoencoder.loss,
      validation_loss: autoencoder.validationLoss,
      epochs: autoencoder.epochs,
      training_rows: count,
      held_back_rows: residuals.length,
      held_back_score_max: highest,
      multiply_adds: multiplyAdds(autoencoder),
      ...choice.metrics,
    },
    hyperParameters: { ...parameters, outerUnits: hidden[0], middleUnits: hidden[1] },
  };
}

function insufficient(what: string): CardanError {
  return new CardanError(
    'TRAINING_DATA_INSUFFICIENT',
    `There are ${what}; a model needs ${TRAINING_ROWS_MIN} and ${HELD_BACK_ROWS_MIN}. Collect more data first.`,
  );
}

/** Milliseconds from row to row, as most rows have it. */
function medianPeriod(vehicles: readonly VehicleRows[]): number {
  const periods: number[] = [];
  for (const { times } of vehicles)
    for (let row = 1; row < Math.min(times.length, 1000); row++) {
      const period = times[row]! - times[row - 1]!;
      if (period > 0) periods.push(period);
    }
  periods.sort((a, b) => a - b);
  return periods[periods.length >> 1] ?? 1000;
}

/** A third more units than inputs, then a bottleneck of two thirds of them; less where that would be too much. */
function hiddenUnits(width: number, { outerUnits, middleUnits }: HyperParameters): [number, number, number] {
  let outer = outerUnits > 0 ? outerUnits : Math.ceil((4 * width) / 3);
  const middle = () => (middleUnits > 0 ? middleUnits : Math.ceil(outer / 2));
  if (outerUnits === 0) while (outer > 4 && 2 * outer * (width + middle()) > WEIGHTS_MAX) outer--;
  return [outer, middle(), outer];
}

/** Smoothed residuals of all rows that have some, one array per row. */
async function smoothedResiduals(
  spans: readonly Span[],
  signals: number,
  features: FeatureSpec,
  smoothingRows: number,
  layers: readonly DenseLayer[],
  turns: Turns,
): Promise<Float64Array[]> {
  const rows: Float64Array[] = [];
  for (const { times, values } of spans) {
    const residuals = new SmoothedResiduals(features, smoothingRows, layers);
    for (let row = 0; row < times.length; row++) {
      if (residuals.push(times[row]!, values, row * signals)) rows.push(residuals.values.slice());
      if (row % 64 === 0 && turns.due) await turns.give();
    }
  }
  return rows;
}

function residualSpread(residuals: readonly Float64Array[], smoothingRows: number): ScoreSpec {
  const width = residuals[0]!.length;
  const spec: ScoreSpec = { smoothingRows, residualCenter: [], residualScale: [] };
  for (let i = 0; i < width; i++) {
    let sum = 0;
    let seen = 0;
    for (const row of residuals)
      if (!Number.isNaN(row[i]!)) {
        sum += row[i]!;
        seen++;
      }
    const center = seen === 0 ? 0 : sum / seen;
    let squares = 0;
    for (const row of residuals) if (!Number.isNaN(row[i]!)) squares += (row[i]! - center) ** 2;
    spec.residualCenter.push(center);
    spec.residualScale.push(Math.max(RESIDUAL_SPREAD_MIN, seen === 0 ? 1 : Math.sqrt(squares / seen)));
  }
  return spec;
}

function highestScore(residuals: readonly Float64Array[], score: ScoreSpec): number {
  const powers = new Float64Array(score.residualScale.length);
  let highest = 0;
  for (const row of residuals) highest = Math.max(highest, fuse(row, score, powers));
  return highest;
}

function multiplyAdds({ layers }: Autoencoder): number {
  return layers.reduce((sum, { kernel }) => sum + kernel.length, 0);
}
