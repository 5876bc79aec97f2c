import { encodeTelemetry } from '@cardan/shared';

/** As many as the article's car has. */
const SIGNALS = 18;
/** An epoch is a random number below 2^47; this one takes as many bytes as most. */
const EPOCH = 2 ** 46 + 12_345;
export const SIGNAL_SET = '0123456789abcdef';
const ROW_MS = 1000;

/** What a fleet sends: message `i` is the next `TelemetryBatch` of vehicle `i` modulo `vehicles`. */
export class FleetMessages {
  readonly vehicles: number;
  readonly rows: number;
  private readonly values: Float32Array;
  private readonly scores: Float32Array;
  private readonly begin: number;

  constructor(options: { vehicles: number; rows: number }) {
    this.vehicles = options.vehicles;
    this.rows = options.rows;
    this.values = Float32Array.from({ length: this.rows * SIGNALS }, (_, i) => 20 + ((i * 7) % 100) / 3);
    this.scores = Float32Array.from({ length: this.rows }, (_, i) => 0.5 + i / 1000);
    this.begin = Date.now() - 24 * 3600 * 1000;
  }

  vehicle(i: number): string {
    return `car-${String(i % this.vehicles).padStart(5, '0')}`;
  }

  payload(i: number): Buffer {
    const firstSequence = 1 + Math.floor(i / this.vehicles) * this.rows;
    const start = this.begin + firstSequence * ROW_MS;
    // Every batch is another one, as in a car.
    this.values[0] = i % 1000;
    return encodeTelemetry({
      signalSet: SIGNAL_SET,
      epoch: EPOCH,
      firstSequence,
      times: Float64Array.from({ length: this.rows }, (_, row) => start + row * ROW_MS),
      values: this.values,
      scores: this.scores,
      modelName: 'car',
      modelVersion: '7',
    });
  }
}
