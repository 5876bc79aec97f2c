import {
  DenseExecutor,
  writeDense,
  type AlarmSpec,
  type FeatureSpec,
  type ModelManifest,
  type ScoreSpec,
  type SignalSet,
} from '@cardan/shared';
import { crossFit, type EpochProgress } from './cross-fit.ts';
import type { HeldBackRows } from './false-alarms.ts';
import { chooseInputs, extractFeatures } from './feature-choice.ts';
import { unitsThatFit } from './leave-one-out.ts';
import { HYPER_PARAMETERS, type HyperParameters } from './hyper-parameters.ts';
import { insufficient, meansOf, ROWS_MIN, scoringOf, type HeldBackPart } from './scoring.ts';
import { split } from './split.ts';
import type { VehicleRows } from './training-data.ts';
import { crossFitTrivial, type TrivialFit } from './trivial-detectors.ts';
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
  engine: ModelManifest['engine'];
  features: FeatureSpec;
  score: ScoreSpec;
  alarm: AlarmSpec;
  modelJson: Buffer;
  weights: Buffer;
  metrics: Record<string, number>;
  hyperParameters: Record<string, number | string>;
  /** What the same rows say without a network. */
  trivial: TrivialFit;
  /** Rows that are held back from training, or each from a network of its own. Undefined for those of a log. */
  heldBack?: readonly HeldBackRows[];
}

/** A silence of so many periods is a gap, over which no window reaches. */
const GAP_PERIODS = 5;
const GAP_LATE = 2;
const GAP_MOST = 4;
const EPOCHS_MIN = 4;
const EPOCHS_MAX = 120;

/**
 * Rows of normal driving → a model. Chooses and standardises the features, trains a leave-one-out network, and takes
 * residual spread and threshold from rows that a model trained beside it has not seen (see `crossFit`).
 * Everything random comes from the seed.
 *
 * Throws TRAINING_DATA_INSUFFICIENT, TRAINING_DIVERGED; the signal's reason when aborted.
 */
export async function fit(options: FitOptions): Promise<Fit> {
  const { signalSet, vehicles, seed, signal } = options;
  const parameters = { ...HYPER_PARAMETERS, ...options.hyperParameters };
  const turns = new Turns(signal);
  const signals = signalSet.signals.length;
  const parts = split(vehicles, parameters.parts, seed);
  const gapMs = gapOf(vehicles);
  const choice = await chooseInputs(vehicles, signals, gapMs, parameters, turns);
  const { windowRows, clip } = parameters;
  const features: FeatureSpec = { windowRows, gapMs, inputs: choice.inputs, clip };
  const blocks: Float32Array[] = [];
  for (const part of parts) blocks.push(await extractFeatures(part, signals, features, turns));
  const width = features.inputs.length;
  const rows = blocks.reduce((sum, block) => sum + block.length / width, 0);
  if (rows < ROWS_MIN || blocks.some((block) => block.length === 0)) throw insufficient(rows);

  const units = parameters.units > 0 ? parameters.units : unitsThatFit(width);
  const epochs = Math.min(EPOCHS_MAX, Math.max(EPOCHS_MIN, Math.round(parameters.rowsShown / rows)));
  await options.onData?.(epochs);
  const { onEpoch } = options;
  const fitted = await crossFit(
    blocks,
    features.inputs.map(({ signal }) => signal),
    { ...parameters, units, epochs, seed, onEpoch },
    turns,
  );
  const heldBack: HeldBackPart[] = parts.map((spans, i) => ({
    spans,
    network: new DenseExecutor(fitted.withoutPart[i]!),
    means: meansOf(
      blocks.filter((_, j) => j !== i),
      width,
    ),
  }));
  const { score, alarm, ...judged } = await scoringOf(
    heldBack,
    { signals, features, parameters, means: meansOf(blocks, width), vehicles: vehicles.length },
    turns,
  );
  const trivial = await crossFitTrivial(parts, signals, features, turns);
  const { modelJson, weights } = writeDense(fitted.layers);
  return {
    engine: 'dense',
    features,
    score,
    alarm,
    modelJson,
    weights,
    metrics: {
      loss: fitted.loss,
      validation_loss: fitted.validationLoss,
      epochs: fitted.epoch,
      training_rows: rows,
      held_back_rows: judged.rows,
      held_back_score_max: judged.highest,
      multiply_adds: fitted.layers.reduce((sum, { kernel }) => sum + kernel.length, 0),
      ...choice.metrics,
      ...trivial.metrics,
    },
    hyperParameters: { ...parameters, units, smoothingRows: score.smoothingRows },
    trivial,
    heldBack: parts.flatMap((spans, i) => spans.map((span) => ({ ...span, network: heldBack[i]!.network }))),
  };
}

/**
 * A silence of so many milliseconds is a gap: five times the period that most rows have, and at least twice what one
 * row in a hundred has, for sources that are late now and then; but never more than twenty periods.
 */
export function gapOf(vehicles: readonly VehicleRows[]): number {
  const periods: number[] = [];
  for (const { times } of vehicles)
    for (let row = 1; row < Math.min(times.length, 1000); row++) {
      const period = times[row]! - times[row - 1]!;
      if (period > 0) periods.push(period);
    }
  periods.sort((a, b) => a - b);
  const at = (part: number) => periods[Math.floor(part * periods.length)] ?? 1000;
  const most = GAP_PERIODS * at(0.5);
  return Math.max(most, Math.min(GAP_LATE * at(0.99), GAP_MOST * most));
}
