import { encodeTelemetry, signalSet } from '@cardan/shared';
import type { NewRecord } from '@cardan/shared/event-log';

/** Three signals: b follows a, c is their sum. */
export const SET = signalSet(['a', 'b', 'c'].map((name) => ({ name, unit: '' })));

/**
 * Rows of correlated signals with a little that looks like noise, one a second; the first one has the sequence number
 * `first` and is `first` seconds after `beginS`.
 */
export function drive(
  vehicle: string,
  first: number,
  rows: number,
  { signalSetId = SET.id, beginS = 0, broken = false } = {},
): NewRecord {
  const values = new Float32Array(rows * 3);
  for (let row = 0; row < rows; row++) {
    const t = first + row + vehicle.charCodeAt(1) * 7;
    const a = Math.sin(t / 17) + 0.5 * Math.sin(t / 5.3);
    values.set(
      [
        a + 0.02 * Math.sin(t * 12.9),
        (broken ? -2 : 2) * a + 0.02 * Math.sin(t * 78.2),
        3 * a + 0.02 * Math.sin(t * 37.7),
      ],
      row * 3,
    );
  }
  const value = encodeTelemetry({
    signalSet: signalSetId,
    epoch: 9,
    firstSequence: first,
    times: Float64Array.from({ length: rows }, (_, row) => (beginS + first + row) * 1000),
    values,
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  });
  return { key: vehicle, value, timestamp: (beginS + first + rows - 1) * 1000 };
}
