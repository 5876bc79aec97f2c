import { CardanError } from '../errors.ts';
import type { Model } from './load-model.ts';
import type { ModelManifest, SelfTest } from './manifest.ts';
import { Scorer } from './scorer.ts';

/**
 * A model proves itself where it is loaded: it scores rows that follow from its manifest and a seed, and must come to
 * the scores that were written down where it was made. So a processor, a Node.js or an agent that computes something
 * else is found out before the first real row, for some hundred bytes in the manifest.
 *
 *   value of signal s in row t = base + 3 · spread · u,   u from −1 to 1
 *     base, spread    center and scale of the first input of s that is a mean, a minimum, a maximum or a value;
 *                     of another input 0 and its center + scale
 *     u               per row and signal the next number of x ← 1664525 x + 1013904223 mod 2³² (Numerical Recipes),
 *                     beginning with x = seed, as x / 2³¹ − 1; where its top four bits are 0: not seen (NaN)
 *   time of row t = t · gapMs / 2
 *
 * Rows are float32, as they are in a car.
 */
export interface SelfTestRows {
  times: Float64Array;
  /** Row-major, rows × signals. */
  values: Float32Array;
}

/** A few, so that each window has been moved on. */
const SCORES = 8;
/** The dense executor gives the same bits everywhere; this much is left to models whose scores others computed. */
const TOLERANCE = { dense: 1e-6, tfjs: 1e-3 } as const;

/** As many rows as give `scores` scores. With `spread` 0 all of them are the centre of normal driving. */
export function selfTestRows(
  { features, score, signalSet }: ModelManifest,
  seed: number,
  scores = SCORES,
  spread = 3,
): SelfTestRows {
  const rows = features.windowRows + score.smoothingRows - 2 + scores;
  const signals = signalSet.signals.length;
  const range = signalSet.signals.map((_, signal): [base: number, spread: number] => {
    const inputs = features.inputs.filter((input) => input.signal === signal);
    const place = inputs.find(({ statistic }) => ['mean', 'min', 'max', 'value'].includes(statistic));
    if (place !== undefined) return [place.center, place.scale];
    const [first] = inputs;
    return first === undefined ? [0, 0] : [0, Math.abs(first.center) + first.scale];
  });
  const times = Float64Array.from({ length: rows }, (_, row) => (row * features.gapMs) / 2);
  const values = new Float32Array(rows * signals);
  let x = seed >>> 0;
  for (let i = 0; i < values.length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    const [base, scale] = range[i % signals]!;
    const hidden = spread > 0 && x >>> 28 === 0;
    values[i] = hidden ? Number.NaN : base + spread * scale * (x / 2 ** 31 - 1);
  }
  return { times, values };
}

/** The self-test of a model, to be put into its manifest. */
export function selfTestOf(model: Model, seed: number): SelfTest {
  const start = seed >>> 0;
  return { seed: start, scores: scoresOf(model, selfTestRows(model.manifest, start), SCORES) };
}

/**
 * Throws SELF_TEST_FAILED when the model does not give the scores that its manifest says. One whose manifest says
 * none must give finite scores at the centre of normal driving.
 */
export function checkSelfTest(model: Model): void {
  const { name, version, engine, selfTest } = model.manifest;
  const failed = (why: string) =>
    new CardanError('SELF_TEST_FAILED', `Model ${name} ${version} failed its self-test: ${why}.`);
  if (selfTest === undefined) {
    if (!scoresOf(model, selfTestRows(model.manifest, 0, SCORES, 0), SCORES).every(Number.isFinite))
      throw failed('its score of calm driving is no finite number');
    return;
  }
  const { seed, scores } = selfTest;
  const found = scoresOf(model, selfTestRows(model.manifest, seed, scores.length), scores.length);
  scores.forEach((expected, i) => {
    const score = found[i]!;
    // Written so that NaN fails.
    if (!(Math.abs(score - expected) <= TOLERANCE[engine] * Math.max(1, expected)))
      throw failed(`score ${i + 1} is ${score} here, and was ${expected} where it was made`);
  });
}

/** The last `scores` scores. */
function scoresOf(model: Model, { times, values }: SelfTestRows, scores: number): number[] {
  const scorer = new Scorer(model);
  const signals = values.length / times.length;
  const all = Array.from(times, (time, row) => scorer.push(time, values, row * signals));
  return all.slice(-scores);
}
