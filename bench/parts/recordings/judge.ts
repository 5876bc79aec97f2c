import { FeatureExtractor, loadModel, type SignalSet } from '@cardan/shared';
import { csvModel } from '../../../cloud/src/csv/csv-model.ts';
import { scoreRows } from '../../../cloud/src/csv/score-table.ts';
import { rocAuc } from '../../../cloud/src/trainer/roc-auc.ts';
import type { HyperParameters } from '../../../cloud/src/trainer/hyper-parameters.ts';
import { soundRows, type LabelledRecording } from './labelled-recording.ts';

/** What a detector reached on rows that it had not seen. */
export interface Judged {
  detector: string;
  auc: number;
  /** Of rows over its limit; undefined where it has none. */
  f1?: number;
  /** Part of the sound rows over the limit, and of the failing ones under it. */
  falseAlarms?: number;
  missed?: number;
}

/** Makes a model of the sound rows of some machines, and judges it and the trivial detectors on all rows of others. */
export async function judgeRecordings(
  set: SignalSet,
  training: readonly LabelledRecording[],
  others: readonly LabelledRecording[],
  { seed, hyperParameters }: { seed: number; hyperParameters: Partial<HyperParameters> },
): Promise<Judged[]> {
  const normal = training.map(soundRows).filter(({ times }) => times.length > 0);
  const { files, manifest, trivial } = await csvModel(set, normal, seed, { hyperParameters });
  const model = loadModel(files);
  const cardan = others.map((recording) => scoreRows(model, recording).scores);
  const judged = [judge('cardan', others, cardan, manifest.alarm.threshold)];
  const { detectors, features } = trivial;
  for (const name of detectors.names) {
    const scores = others.map(({ times, values }) => {
      const extractor = new FeatureExtractor(features, true);
      return Float64Array.from(times, (time, row) => {
        extractor.push(time, values, row * set.signals.length);
        return detectors.scores(extractor.clipped)[name];
      });
    });
    judged.push(judge(name, others, scores, detectors.limits[name]));
  }
  return judged;
}

export function judge(
  detector: string,
  recordings: readonly LabelledRecording[],
  scores: readonly Float64Array[],
  limit?: number,
): Judged {
  const rows = recordings.flatMap(({ faulty }, i) =>
    [...faulty].flatMap((label, row) => (Number.isNaN(label) ? [] : [{ label, score: scores[i]![row]! }])),
  );
  const auc = rocAuc(
    rows.map(({ score }) => score),
    rows.map(({ label }) => label),
  );
  if (limit === undefined) return { detector, auc };
  const count = (label: number, over: boolean) =>
    rows.filter((row) => row.label === label && row.score > limit === over).length;
  const [hits, missed, falseAlarms, quiet] = [
    count(1, true),
    count(1, false),
    count(0, true),
    count(0, false),
  ];
  return {
    detector,
    auc,
    f1: (2 * hits) / (2 * hits + falseAlarms + missed),
    falseAlarms: falseAlarms / (falseAlarms + quiet),
    missed: missed / (missed + hits),
  };
}
