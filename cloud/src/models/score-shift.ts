import { CardanError, Scorer, type Model } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { readTrainingData } from '../trainer/training-data.ts';

/** Of the newest records of each partition: some hours of a small fleet, read in a second. */
const RECORDS_MAX = 2000;

interface Scores {
  mean: number;
  p50: number;
  p99: number;
  max: number;
  /** Part of the rows over the model's own threshold. */
  overThreshold: number;
}

/** What two models say of the same rows. */
export interface ScoreShift {
  rows: number;
  vehicles: number;
  /** Rows that both have a score for. */
  scored: number;
  a: Scores;
  b: Scores;
  /** b − a: mean over the rows. */
  meanDifference: number;
}

/**
 * Scores the newest rows of the log with both models. Rows around alarms are in, as it is there that models differ.
 * Throws SIGNAL_SET_MISMATCH, and TRAINING_DATA_INSUFFICIENT when no row has a score from both.
 */
export async function scoreShift(log: EventLog, a: Model, b: Model, rowsMax: number): Promise<ScoreShift> {
  const signalSet = a.manifest.signalSet.id;
  if (b.manifest.signalSet.id !== signalSet)
    throw new CardanError('SIGNAL_SET_MISMATCH', 'The two models are for other signals: no row fits both.');
  const offsets = Object.fromEntries(
    (await log.offsets('telemetry')).map(({ partition, earliest, latest }) => [
      partition,
      { from: Math.max(earliest, latest - RECORDS_MAX), to: latest },
    ]),
  );
  const events = (await log.offsets('vehicle-events')).map(({ partition, latest }) => [
    partition,
    { from: latest, to: latest },
  ]);
  const eventOffsets = Object.fromEntries(events) as typeof offsets;
  const data = await readTrainingData(log, { signalSet, offsets, eventOffsets, rowsMax });
  const [ofA, ofB]: [number[], number[]] = [[], []];
  for (const { times, values } of data.vehicles) {
    const scoresA = new Scorer(a).pushRows(times, values);
    const scoresB = new Scorer(b).pushRows(times, values);
    for (let row = 0; row < times.length; row++) {
      if (!Number.isFinite(scoresA[row]) || !Number.isFinite(scoresB[row])) continue;
      ofA.push(scoresA[row]!);
      ofB.push(scoresB[row]!);
    }
  }
  if (ofA.length === 0)
    throw new CardanError(
      'TRAINING_DATA_INSUFFICIENT',
      `The newest ${data.rows} rows of signal set ${signalSet} in the log give no score: let the fleet drive first.`,
    );
  let difference = 0;
  for (let i = 0; i < ofA.length; i++) difference += ofB[i]! - ofA[i]!;
  return {
    rows: data.rows,
    vehicles: data.vehicles.length,
    scored: ofA.length,
    a: summary(ofA, a.manifest.alarm.threshold),
    b: summary(ofB, b.manifest.alarm.threshold),
    meanDifference: difference / ofA.length,
  };
}

function summary(scores: readonly number[], threshold: number): Scores {
  const sorted = Float64Array.from(scores).sort();
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
  return {
    mean: scores.reduce((sum, score) => sum + score, 0) / scores.length,
    p50: at(0.5),
    p99: at(0.99),
    max: sorted[sorted.length - 1]!,
    overThreshold: scores.filter((score) => score > threshold).length / scores.length,
  };
}
