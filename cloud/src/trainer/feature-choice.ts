import { CardanError, FeatureExtractor, type FeatureInput, type FeatureSpec } from '@cardan/shared';
import type { HyperParameters } from './hyper-parameters.ts';
import type { Span } from './split.ts';
import type { Turns } from './turns.ts';

/** Signals seen in a smaller part of the windows are left out. */
const SEEN_PART_MIN = 0.5;
/**
 * The scale is the standard deviation after a tenth of the values at either end has been pulled in (winsorised),
 * divided by what that leaves of a normal distribution's: a few cold starts, or a broken sensor, do not set the
 * scale. But at least this part of what it is with 3 % pulled in, for signals that rest most of the time.
 */
const INNER_TAIL = 0.1;
const INNER_NORMAL = 0.825;
const OUTER_TAIL = 0.03;
const OUTER_PART = 0.25;
/** Windows from which center and scale are taken: enough for such quantiles. */
const SAMPLE_MAX = 20_000;

export interface FeatureChoice {
  inputs: FeatureInput[];
  metrics: { signals_used: number; signals_constant: number; signals_missing: number };
}

/** What an input is to be, before it is known how it is standardised. */
export type AskedFeature = Pick<FeatureInput, 'signal' | 'statistic' | 'over'>;

/**
 * Which signals become inputs, and how they are standardised; `asked` names others than the mean of each signal. Signals that hardly were there, or hardly ever
 * moved, say nothing of normality and would alarm at the first change: they are left out, and counted.
 *
 * Throws TRAINING_DATA_INSUFFICIENT when nothing is left.
 */
export async function chooseInputs(
  training: readonly Span[],
  signals: number,
  gapMs: number,
  { windowRows }: HyperParameters,
  turns: Turns,
  asked: readonly AskedFeature[] = meansOfAll(signals),
): Promise<FeatureChoice> {
  const plain: FeatureSpec = {
    windowRows,
    gapMs,
    clip: Number.MAX_VALUE,
    inputs: asked.map((input) => ({ ...input, center: 0, scale: 1 })),
  };
  const width = asked.length;
  const plainly = await extractFeatures(training, signals, plain, turns, Number.NaN);
  const windows = plainly.length / width;
  const step = Math.max(1, Math.ceil(windows / SAMPLE_MAX));
  const choice: FeatureChoice = {
    inputs: [],
    metrics: { signals_used: 0, signals_constant: 0, signals_missing: 0 },
  };
  for (const [i, input] of asked.entries()) {
    const column: number[] = [];
    for (let row = 0; row < windows; row += step) {
      const value = plainly[row * width + i]!;
      if (!Number.isNaN(value)) column.push(value);
    }
    if (!(column.length * step >= SEEN_PART_MIN * windows && column.length > 0)) {
      choice.metrics.signals_missing++;
      continue;
    }
    const { center, scale } = standardisation(Float64Array.from(column));
    // What is left of a constant is rounding.
    if (scale <= 1e-6 * Math.abs(center)) choice.metrics.signals_constant++;
    else choice.inputs.push({ ...input, center, scale });
    if (turns.due) await turns.give();
  }
  choice.metrics.signals_used = choice.inputs.length;
  if (choice.inputs.length === 0)
    throw new CardanError(
      'TRAINING_DATA_INSUFFICIENT',
      `None of the ${signals} signals moves in the ${windows} windows there are. Collect data while the vehicles drive.`,
    );
  return choice;
}

/** The mean of each signal. */
export function meansOfAll(signals: number): AskedFeature[] {
  return Array.from({ length: signals }, (_, signal) => ({ signal, statistic: 'mean' }));
}

function standardisation(values: Float64Array): { center: number; scale: number } {
  values.sort();
  const inner = winsorised(values, INNER_TAIL);
  const outer = winsorised(values, OUTER_TAIL);
  return {
    center: inner.center,
    scale: Math.max(inner.deviation / INNER_NORMAL, OUTER_PART * outer.deviation),
  };
}

/** Mean and standard deviation after the tails have been pulled in to their quantiles. */
function winsorised(sorted: Float64Array, tail: number): { center: number; deviation: number } {
  const low = sorted[Math.floor(tail * (sorted.length - 1))]!;
  const high = sorted[Math.ceil((1 - tail) * (sorted.length - 1))]!;
  let sum = 0;
  for (const value of sorted) sum += Math.min(high, Math.max(low, value));
  const center = sum / sorted.length;
  let squares = 0;
  for (const value of sorted) squares += (Math.min(high, Math.max(low, value)) - center) ** 2;
  return { center, deviation: Math.sqrt(squares / sorted.length) };
}

/** The features of all full windows, row-major. `unseen` stands where a signal was not seen. */
export async function extractFeatures(
  spans: readonly Span[],
  signals: number,
  spec: FeatureSpec,
  turns: Turns,
  unseen = 0,
): Promise<Float32Array> {
  const width = spec.inputs.length;
  const rowsMost = spans.reduce((sum, { times }) => sum + times.length, 0);
  const features = new Float32Array(rowsMost * width);
  let at = 0;
  for (const { times, values } of spans) {
    const extractor = new FeatureExtractor(spec);
    for (let row = 0; row < times.length; row++) {
      if (extractor.push(times[row]!, values, row * signals)) {
        for (let i = 0; i < width; i++)
          features[at++] = extractor.seen[i] === 1 ? extractor.clipped[i]! : unseen;
      }
      if (row % 64 === 0 && turns.due) await turns.give();
    }
  }
  return features.slice(0, at);
}
