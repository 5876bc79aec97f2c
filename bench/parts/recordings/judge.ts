import { FeatureExtractor, loadModel, type SignalSet } from '@cardan/shared';
import { csvModel } from '../../../cloud/src/csv/csv-model.ts';
import { scoreRows } from '../../../cloud/src/csv/score-table.ts';
import { rocAuc } from '../../../cloud/src/trainer/roc-auc.ts';
import { TRIVIAL_NAMES } from '../../../cloud/src/trainer/trivial-detectors.ts';
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

/** Scores of all rows of a recording, and the limit over which they are alarms. */
export interface Detector {
  name: string;
  limit?: number;
  scores: (recording: LabelledRecording) => Float64Array;
}

/** A model of the sound rows of some machines, and the detectors without a network of the very same rows. */
export async function detectorsOf(
  set: SignalSet,
  training: readonly LabelledRecording[],
  { seed, hyperParameters }: { seed: number; hyperParameters: Partial<HyperParameters> },
): Promise<Detector[]> {
  const sound = training.map(soundRows).filter(({ times }) => times.length > 0);
  const { files, manifest, trivial } = await csvModel(set, sound, seed, { hyperParameters });
  const model = loadModel(files);
  const { detectors, features } = trivial;
  return [
    {
      name: 'Cardan',
      limit: manifest.alarm.threshold,
      scores: (recording) => scoreRows(model, recording).scores,
    },
    ...detectors.names.map((name) => ({
      name: TRIVIAL_NAMES[name],
      limit: detectors.limits[name],
      scores: ({ times, values }: LabelledRecording) => {
        const extractor = new FeatureExtractor(features, true);
        return Float64Array.from(times, (time, row) => {
          extractor.push(time, values, row * set.signals.length);
          return detectors.scores(extractor.clipped)[name];
        });
      },
    })),
  ];
}

/** On all rows of other machines. */
export function judge({ name, limit, scores }: Detector, recordings: readonly LabelledRecording[]): Judged {
  const rows = recordings.flatMap((recording) => {
    const scored = scores(recording);
    return [...recording.faulty].flatMap((label, row) =>
      Number.isNaN(label) ? [] : [{ label, score: scored[row]! }],
    );
  });
  const auc = rocAuc(
    rows.map(({ score }) => score),
    rows.map(({ label }) => label),
  );
  if (limit === undefined) return { detector: name, auc };
  const count = (label: number, over: boolean) =>
    rows.filter((row) => row.label === label && row.score > limit === over).length;
  const [hits, missed, falseAlarms, quiet] = [
    count(1, true),
    count(1, false),
    count(0, true),
    count(0, false),
  ];
  return {
    detector: name,
    auc,
    f1: (2 * hits) / (2 * hits + falseAlarms + missed),
    falseAlarms: falseAlarms / (falseAlarms + quiet),
    missed: missed / (missed + hits),
  };
}
