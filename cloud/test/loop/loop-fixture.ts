import { cloudEvent, encodeScores, encodeTelemetry, eventToRecord, type ModelManifest } from '@cardan/shared';
import type { EventLog, NewRecord } from '@cardan/shared/event-log';
import { COLUMNS, testModel } from '../registry/model-fixture.ts';

export const START = Date.UTC(2026, 0, 1);
export const HOUR_MS = 3_600_000;
export const ROWS = 80;

/** A row a second; the same for the same vehicle and trip. */
function numberOf(vehicle: number, trip: number, row: number): number {
  const x = Math.sin(vehicle * 12.9898 + trip * 78.233 + row * 37.719) * 43758.5453;
  return x - Math.floor(x);
}

function timesOf(vehicle: number, trip: number): Float64Array {
  return Float64Array.from(
    { length: ROWS },
    (_, row) => START + trip * HOUR_MS + vehicle * 1000 + row * 1000,
  );
}

/** A trip in `telemetry`; `by` moves its first signal. */
export function telemetryOfTrip(vehicle: number, trip: number, by = 0): NewRecord {
  const times = timesOf(vehicle, trip);
  const values = Float32Array.from(
    { length: 2 * ROWS },
    (_, i) => numberOf(vehicle, trip, i) + (i % 2 === 0 ? by : 0),
  );
  const value = encodeTelemetry({
    signalSet: COLUMNS.id,
    epoch: 1,
    firstSequence: trip * ROWS,
    times,
    values,
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  });
  return { key: `car-${vehicle}`, value, timestamp: times[ROWS - 1]! };
}

/** The same trip in `predictions`; scores from `level` on, in thresholds of 4. */
export function scoresOfTrip(vehicle: number, trip: number, level = 0.3): NewRecord {
  const times = timesOf(vehicle, trip);
  const value = encodeScores({
    epoch: 1,
    firstSequence: trip * ROWS,
    times,
    scores: Float32Array.from({ length: ROWS }, (_, row) => 4 * level + 0.2 * numberOf(vehicle, trip, row)),
    modelName: 'anomaly',
    modelVersion: '1',
    threshold: 4,
    signalSet: COLUMNS.id,
  });
  return { key: `car-${vehicle}`, value, timestamp: times[ROWS - 1]! };
}

/** Publishes a champion that was trained on what `telemetry` holds now. */
export async function appendChampion(log: EventLog): Promise<ModelManifest> {
  const offsets = Object.fromEntries(
    (await log.offsets('telemetry')).map(({ partition, latest }) => [partition, { from: 0, to: latest }]),
  );
  const { manifest } = testModel('1', {
    change: ({ lineage }) => {
      lineage.offsets = offsets;
      lineage.span.to = new Date(START + 100 * 24 * HOUR_MS).toISOString();
    },
  });
  const common = { source: '/services/registry', time: START };
  const active = { name: 'anomaly', version: '1' };
  await log.append('models', [
    eventToRecord(
      'anomaly',
      cloudEvent(
        'io.cardan.model.published',
        { ...common, id: '1' },
        { manifest, manifestSha256: '0'.repeat(64) },
      ),
    ),
    eventToRecord(
      'anomaly',
      cloudEvent(
        'io.cardan.rollout.decided',
        { ...common, id: '2' },
        { generation: 1, signalSet: COLUMNS.id, active },
      ),
    ),
  ]);
  return manifest;
}
