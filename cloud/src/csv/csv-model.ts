import { createHash } from 'node:crypto';
import {
  CardanError,
  loadModel,
  selfTestOf,
  serializeManifest,
  type FileRef,
  type ModelManifest,
  type SignalSet,
} from '@cardan/shared';
import { CLOUD_VERSION } from '../config.ts';
import type { ModelFiles } from '../registry-client.ts';
import { boundFalseAlarms } from '../trainer/false-alarms.ts';
import { fit, type FitOptions } from '../trainer/fit.ts';
import { scaledAlarm } from '../trainer/judge-by-repairs.ts';
import { modelName } from '../trainer/training.ts';
import { ROWS_MIN } from '../trainer/scoring.ts';
import type { VehicleRows } from '../trainer/training-data.ts';
import type { TrivialFit } from '../trainer/trivial-detectors.ts';
import { Turns } from '../trainer/turns.ts';
import { rowsSeen } from './table-rows.ts';

/** What stands in the lineage instead of a topic: there are no offsets then. */
export const CSV_TOPIC = 'csv';

/**
 * Makes a model of recordings, by the same code as of rows from the log. It is named and made like any other; its time is
 * that of the newest row, so that the same files and seed give the same bytes.
 *
 * @throws CardanError TRAINING_DATA_INSUFFICIENT, TRAINING_DIVERGED
 */
export async function csvModel(
  signalSet: SignalSet,
  recordings: readonly VehicleRows[],
  seed: number,
  {
    falseAlarmsPer100Hours,
    ...more
  }: Pick<FitOptions, 'hyperParameters' | 'onEpoch'> & { falseAlarmsPer100Hours?: number | undefined } = {},
): Promise<{ files: ModelFiles; manifest: ModelManifest; trivial: TrivialFit }> {
  const rows = recordings.reduce((sum, { times }) => sum + times.length, 0);
  const columns = [...signalSet.signals.keys()];
  const usable = recordings.reduce((sum, one) => sum + rowsSeen(one, columns), 0);
  if (usable < ROWS_MIN)
    throw new CardanError(
      'TRAINING_DATA_INSUFFICIENT',
      `${usable} of the ${rows} rows to learn from have a number in the column of any sensor; a model needs ${ROWS_MIN}. ` +
        (usable === rows
          ? 'Record more first.'
          : 'Look at the cells: numbers are written as 12.5, or, between semicolons, 12,5.'),
    );
  const result = await fit({ signalSet, vehicles: recordings, seed, ...more });
  const span = spanOf(recordings);
  const manifest: ModelManifest = {
    schema: 1,
    name: modelName(signalSet.id),
    version: '1',
    createdAt: span.to,
    signalSet,
    engine: 'dense',
    features: result.features,
    score: result.score,
    alarm: result.alarm,
    files: { 'model.json': fileRef(result.modelJson), 'weights.bin': fileRef(result.weights) },
    lineage: {
      topic: CSV_TOPIC,
      offsets: {},
      eventOffsets: {},
      span,
      rows,
      vehicles: recordings.length,
      rowsExcluded: 0,
      duplicatesDropped: 0,
      seed,
      hyperParameters: {
        ...result.hyperParameters,
        ...(falseAlarmsPer100Hours === undefined ? {} : { falseAlarmsPer100Hours }),
      },
      codeVersion: CLOUD_VERSION,
      parent: null,
    },
    metrics: result.metrics,
  };
  const files = { model: result.modelJson, weights: result.weights };
  const model = loadModel({ manifest: serializeManifest(manifest), ...files });
  manifest.selfTest = selfTestOf(model, seed);
  if (falseAlarmsPer100Hours !== undefined) {
    const rows = result.heldBack ?? [];
    const bound = await boundFalseAlarms(model, rows, falseAlarmsPer100Hours, new Turns(undefined));
    manifest.alarm = scaledAlarm(manifest.alarm, bound.factor);
    manifest.metrics = { ...manifest.metrics, ...bound.metrics };
  }
  return { files: { manifest: serializeManifest(manifest), ...files }, manifest, trivial: result.trivial };
}

function spanOf(recordings: readonly VehicleRows[]): ModelManifest['lineage']['span'] {
  let [from, to] = [Infinity, -Infinity];
  for (const { times } of recordings)
    for (const time of times) {
      from = Math.min(from, time);
      to = Math.max(to, time);
    }
  return { from: isoTime(from), to: isoTime(to) };
}

/** A number of a time column may be no date at all: within the years that RFC 3339 has. */
function isoTime(ms: number): string {
  const [first, last] = [Date.UTC(1, 0), Date.UTC(9999, 11)];
  return new Date(Math.min(last, Math.max(first, Math.round(ms)))).toISOString();
}

function fileRef(bytes: Buffer): FileRef {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), length: bytes.length };
}
