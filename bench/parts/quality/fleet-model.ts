import { createHash } from 'node:crypto';
import { serializeManifest, type ModelFileBytes, type ModelManifest } from '@cardan/shared';
import { fit } from '../../../cloud/src/trainer/fit.ts';
import { Car } from '../../../simulators/src/car.ts';
import { CAR_COLUMNS, recordCar } from './car-rows.ts';

/** Where every drive begins, milliseconds since 1970. */
export const START = Date.UTC(2026, 0, 1);
/** Seeds of the training fleet lie far from those of the cars that it is judged on. */
const TRAINING_SEEDS = 1_000_000;

/** The files of a model that the real trainer has made of healthy cars, as a car gets them. */
export async function trainFleetModel(fleet: {
  cars: number;
  rowsPerCar: number;
  seed: number;
}): Promise<{ files: ModelFileBytes; metrics: Record<string, number> }> {
  const vehicles = Array.from({ length: fleet.cars }, (_, i) => {
    const vehicle = `training-${String(i).padStart(4, '0')}`;
    const car = new Car({ id: vehicle, seed: fleet.seed * TRAINING_SEEDS + i, startTime: START });
    return { vehicle, ...recordCar(car, START, START + fleet.rowsPerCar * 1000) };
  });
  const result = await fit({ signalSet: CAR_COLUMNS.set, vehicles, seed: fleet.seed });
  const ref = (bytes: Buffer) => ({
    sha256: createHash('sha256').update(bytes).digest('hex'),
    length: bytes.length,
  });
  const day = new Date(START).toISOString();
  const manifest: ModelManifest = {
    schema: 1,
    name: `anomaly-${CAR_COLUMNS.set.id}`,
    version: '1',
    createdAt: day,
    signalSet: CAR_COLUMNS.set,
    engine: 'dense',
    features: result.features,
    score: result.score,
    alarm: result.alarm,
    files: { 'model.json': ref(result.modelJson), 'weights.bin': ref(result.weights) },
    lineage: {
      topic: 'telemetry',
      offsets: {},
      eventOffsets: {},
      span: { from: day, to: day },
      rows: vehicles.reduce((sum, { times }) => sum + times.length, 0),
      vehicles: vehicles.length,
      rowsExcluded: 0,
      duplicatesDropped: 0,
      seed: fleet.seed,
      hyperParameters: result.hyperParameters,
      codeVersion: '0',
      parent: null,
    },
    metrics: result.metrics,
  };
  const files = {
    manifest: serializeManifest(manifest),
    model: result.modelJson,
    weights: result.weights,
  };
  return { files, metrics: result.metrics };
}
