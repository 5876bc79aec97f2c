import type { VehicleRows } from '../../../cloud/src/trainer/training-data.ts';

/** Rows of one machine, and which of them were recorded while it was failing. */
export interface LabelledRecording extends VehicleRows {
  /** Per row 1 while it is failing, 0 while it is sound, NaN for rows that nobody judges. */
  faulty: Float64Array;
}

/** The rows that are sound, as somebody has who cuts off what came before a repair. */
export function soundRows({ vehicle, times, values, faulty }: LabelledRecording): VehicleRows {
  const width = values.length / times.length;
  const rows = [...faulty.keys()].filter((row) => faulty[row] === 0);
  return {
    vehicle,
    times: Float64Array.from(rows, (row) => times[row]!),
    values: Float32Array.from(rows.flatMap((row) => [...values.subarray(row * width, (row + 1) * width)])),
  };
}
