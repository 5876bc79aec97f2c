import type { FeatureSpec } from '@cardan/shared';
import { concatenated } from './cross-fit.ts';
import { extractFeatures } from './feature-choice.ts';
import type { Span } from './split.ts';
import { symmetricEigen, type Eigen } from './symmetric-eigen.ts';
import type { Turns } from './turns.ts';

/**
 * The detectors without a network beside which every model has to stand, by the name of what they compute:
 *
 * - `max_z`: the largest deviation of one input from its mean, in its standard deviations: a control chart per signal
 *   (Shewhart, "Economic control of quality of manufactured product", 1931).
 * - `mahalanobis`: the distance from the mean in the metric of the inverse covariance (Mahalanobis, "On the generalised
 *   distance in statistics", 1936); its square is Hotelling's T² over all directions (Hotelling, "Multivariate quality
 *   control", 1947).
 * - `t2_q`: T² within the principal components, and the squared distance from them (Q, or SPE), each by its own limit; the
 *   larger counts (Jackson and Mudholkar, "Control procedures for residuals associated with principal component analysis",
 *   Technometrics 1979).
 */
export const TRIVIAL = ['max_z', 'mahalanobis', 't2_q'] as const;
export type Trivial = (typeof TRIVIAL)[number];
/** For people. */
export const TRIVIAL_NAMES: Readonly<Record<Trivial, string>> = {
  max_z: 'max |z|',
  mahalanobis: 'Mahalanobis',
  t2_q: 'T²+Q',
};
export type TrivialScores = Record<Trivial, number>;

/** Their limits are what this part of the rows that they were made of exceeds. */
export const LIMIT_EXCEEDED = 0.01;
/** The principal components hold this part of the variance. */
const VARIANCE_KEPT = 0.95;
/** Sensors resolve no better than this part of a standard deviation: without it a copy of a signal makes distances infinite. */
const RESOLUTION = 0.02;
/** Rows by which they are made, and by which they are judged: enough for a covariance, and little time for any span. */
const ROWS_MAX = 20_000;
/** Long beside a window, short beside a trip. */
const PIECE_ROWS = 250;
/** With more inputs, the time that their directions take is not worth a comparison: there is `max_z` alone. */
const DIRECTIONS_MAX = 256;

/**
 * Made of rows of normal running, they say how unlike these another row is. They are given the very inputs of the model,
 * standardised, but not clipped, and without a window over their scores. An input that was not seen counts as its mean.
 */
export class TrivialDetectors {
  /** Scores over these would be alarms. */
  readonly limits: TrivialScores;
  private readonly means: Float64Array;
  private readonly deviations: Float64Array;
  /** Undefined where there are too many inputs. */
  private readonly directions: Eigen | undefined;
  private readonly kept: number;
  private readonly t2Limit: number;
  private readonly qLimit: number;
  private readonly off: Float64Array;

  private constructor(rows: Float32Array, width: number, moments: Moments, directions: Eigen | undefined) {
    this.means = moments.means;
    this.deviations = Float64Array.from(this.means, (_, i) =>
      Math.max(RESOLUTION, Math.sqrt(moments.covariance[i * width + i]!)),
    );
    this.directions = directions;
    this.kept = directions === undefined ? 0 : componentsFor(VARIANCE_KEPT, directions.values);
    this.off = new Float64Array(width);
    const parts: Parts[] = [];
    for (let at = 0; at < rows.length; at += width) parts.push(this.parts(rows, at));
    const limit = (of: (part: Parts) => number) => limitOf(parts.map(of));
    this.t2Limit = limit(({ t2 }) => t2);
    this.qLimit = limit(({ q }) => q);
    this.limits = {
      max_z: limit(({ maxZ }) => maxZ),
      mahalanobis: limit(({ distance }) => distance),
      t2_q: limit((part) => this.t2q(part)),
    };
  }

  /** Of features of normal rows, row-major; at least one row. */
  static async of(rows: Float32Array, width: number, turns: Turns): Promise<TrivialDetectors> {
    const moments = momentsOf(rows, width);
    const few = width <= DIRECTIONS_MAX;
    const directions = few ? await symmetricEigen(moments.covariance, width, turns) : undefined;
    return new TrivialDetectors(rows, width, moments, directions);
  }

  /** Which of them there are for this many inputs. */
  get names(): readonly Trivial[] {
    return this.directions === undefined ? ['max_z'] : TRIVIAL;
  }

  /** Of the features that begin at `at`. */
  scores(features: ArrayLike<number>, at = 0): TrivialScores {
    const parts = this.parts(features, at);
    return { max_z: parts.maxZ, mahalanobis: parts.distance, t2_q: this.t2q(parts) };
  }

  private t2q({ t2, q }: Parts): number {
    return Math.max(t2 / this.t2Limit, q / this.qLimit);
  }

  private parts(features: ArrayLike<number>, at: number): Parts {
    const { means, deviations, directions, kept, off } = this;
    const width = means.length;
    const parts: Parts = { maxZ: 0, distance: 0, t2: 0, q: 0 };
    for (let i = 0; i < width; i++) {
      off[i] = features[at + i]! - means[i]!;
      parts.maxZ = Math.max(parts.maxZ, Math.abs(off[i]!) / deviations[i]!);
    }
    if (directions === undefined) return parts;
    let [squares, rest] = [0, 0];
    for (let direction = 0; direction < width; direction++) {
      let along = 0;
      for (let i = 0; i < width; i++) along += off[i]! * directions.vectors[direction * width + i]!;
      const square = (along * along) / (Math.max(0, directions.values[direction]!) + RESOLUTION ** 2);
      squares += square;
      if (direction < kept) parts.t2 += square;
      else rest += along * along;
    }
    parts.distance = Math.sqrt(squares);
    parts.q = rest;
    return parts;
  }
}

interface Parts {
  maxZ: number;
  distance: number;
  t2: number;
  q: number;
}

/** The detectors beside a model, and what they reached on rows that were held back. */
export interface TrivialFit {
  /** What they are given: the inputs of the model, not clipped. */
  features: FeatureSpec;
  /** Made of all rows that the model was trained on. */
  detectors: TrivialDetectors;
  /**
   * For the manifest: per detector the part of the held-back rows that is over a limit which one in a hundred of the rows that
   * it was made of is over. On normal rows these are false alarms.
   */
  metrics: Record<string, number>;
}

/** For each part in turn the detectors are made of the others, as `crossFit` does it. */
export async function crossFitTrivial(
  parts: readonly (readonly Span[])[],
  signals: number,
  features: FeatureSpec,
  turns: Turns,
): Promise<TrivialFit> {
  const width = features.inputs.length;
  const unclipped = { ...features, clip: Number.MAX_VALUE };
  const blocks: Float32Array[] = [];
  for (const part of parts)
    blocks.push(
      thinned(await extractFeatures(part, signals, unclipped, turns), width, ROWS_MAX / parts.length),
    );
  const over = new Map<Trivial, number>();
  for (const [i, block] of blocks.entries()) {
    const detectors = await TrivialDetectors.of(concatenated(blocks.filter((_, j) => j !== i)), width, turns);
    const counted = await countOver(detectors, block, width, turns);
    for (const [name, count] of counted) over.set(name, (over.get(name) ?? 0) + count);
  }
  const all = concatenated(blocks);
  return {
    features: unclipped,
    detectors: await TrivialDetectors.of(all, width, turns),
    metrics: ratesOf(over, all.length / width),
  };
}

/** The detectors are made of some rows, and judged on others. */
export async function fitTrivial(
  training: readonly Span[],
  heldBack: readonly Span[],
  signals: number,
  features: FeatureSpec,
  turns: Turns,
): Promise<TrivialFit> {
  const width = features.inputs.length;
  const unclipped = { ...features, clip: Number.MAX_VALUE };
  const rows = await extractFeatures(shortened(training, signals, ROWS_MAX), signals, unclipped, turns);
  const detectors = await TrivialDetectors.of(rows, width, turns);
  const judged = await extractFeatures(shortened(heldBack, signals, ROWS_MAX), signals, unclipped, turns);
  const over = await countOver(detectors, judged, width, turns);
  return { features: unclipped, detectors, metrics: ratesOf(over, judged.length / width) };
}

/** Of a manifest's metrics, for people; undefined for a model without these figures. */
export function trivialText(metrics: Readonly<Record<string, number>>): string | undefined {
  const rates = TRIVIAL.flatMap((name) => {
    const rate = metrics[`${name}_alarm_rate`];
    return rate === undefined ? [] : [`${TRIVIAL_NAMES[name]} ${Number((100 * rate).toPrecision(2))} %`];
  });
  if (rates.length === 0) return undefined;
  return `simpler detectors, at limits for ${100 * LIMIT_EXCEEDED} %, alarm on ${rates.join(', ')} of the held-back rows`;
}

async function countOver(
  detectors: TrivialDetectors,
  rows: Float32Array,
  width: number,
  turns: Turns,
): Promise<Map<Trivial, number>> {
  const over = new Map<Trivial, number>(detectors.names.map((name) => [name, 0]));
  for (let at = 0; at < rows.length; at += width) {
    const scores = detectors.scores(rows, at);
    for (const [name, count] of over) if (scores[name] > detectors.limits[name]) over.set(name, count + 1);
    if (turns.due) await turns.give();
  }
  return over;
}

function ratesOf(over: ReadonlyMap<Trivial, number>, rows: number): Record<string, number> {
  return Object.fromEntries([...over].map(([name, count]) => [`${name}_alarm_rate`, count / rows]));
}

interface Moments {
  means: Float64Array;
  covariance: Float64Array;
}

function momentsOf(rows: Float32Array, width: number): Moments {
  const means = new Float64Array(width);
  const covariance = new Float64Array(width * width);
  const count = rows.length / width;
  for (let at = 0; at < rows.length; at += width)
    for (let i = 0; i < width; i++) means[i]! += rows[at + i]! / count;
  const off = new Float64Array(width);
  for (let at = 0; at < rows.length; at += width) {
    for (let i = 0; i < width; i++) off[i] = rows[at + i]! - means[i]!;
    for (let i = 0; i < width; i++)
      for (let j = i; j < width; j++) covariance[i * width + j]! += (off[i]! * off[j]!) / count;
  }
  for (let i = 0; i < width; i++)
    for (let j = 0; j < i; j++) covariance[i * width + j] = covariance[j * width + i]!;
  return { means, covariance };
}

/** The fewest of the first components that hold this part of the variance. */
function componentsFor(part: number, variances: Float64Array): number {
  const all = variances.reduce((sum, variance) => sum + Math.max(0, variance), 0);
  let [held, count] = [0, 0];
  while (count < variances.length && held < part * all) held += variances[count++]!;
  return count;
}

/** A hundredth of these is over it. Never 0, as scores are divided by it: where nothing is left of a distance, rounding is no alarm. */
function limitOf(scores: readonly number[]): number {
  const sorted = Float64Array.from(scores).sort();
  const value = sorted[Math.ceil((1 - LIMIT_EXCEEDED) * sorted.length) - 1] ?? 0;
  return Math.max(value, RESOLUTION ** 2);
}

/** So many rows at most, evenly spread. */
function thinned(rows: Float32Array, width: number, rowsMax: number): Float32Array {
  const step = Math.ceil(rows.length / width / rowsMax);
  if (step <= 1) return rows;
  const taken = new Float32Array(Math.ceil(rows.length / width / step) * width);
  for (let from = 0, to = 0; from < rows.length; from += step * width, to += width)
    taken.set(rows.subarray(from, from + width), to);
  return taken;
}

/** The same before their features are known, of a long span: pieces of it, as windows need rows in succession. */
function shortened(spans: readonly Span[], signals: number, rowsMax: number): readonly Span[] {
  const rows = spans.reduce((sum, { times }) => sum + times.length, 0);
  const step = PIECE_ROWS * Math.max(1, Math.ceil(rows / rowsMax));
  if (step === PIECE_ROWS) return spans;
  return spans.flatMap(({ times, values }) =>
    Array.from({ length: Math.ceil(times.length / step) }, (_, i) => {
      const [from, to] = [i * step, i * step + PIECE_ROWS];
      return { times: times.subarray(from, to), values: values.subarray(from * signals, to * signals) };
    }),
  );
}
