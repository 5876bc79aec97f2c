import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CardanError, decodeTelemetry, encodeTelemetry } from '@cardan/shared';
import { telemetrySpan } from '../src/telemetry-span.ts';

/** What the full decoder says, which is written apart: the span, or the code of its error. */
function decoded(bytes: Uint8Array): unknown {
  try {
    const { epoch, firstSequence, times } = decodeTelemetry(bytes);
    return { epoch, firstSequence, rows: times.length, lastTime: times.at(-1) };
  } catch (error) {
    return error instanceof CardanError ? error.message : error;
  }
}
function span(bytes: Uint8Array): unknown {
  try {
    return telemetrySpan(bytes);
  } catch (error) {
    return error instanceof CardanError ? error.message : error;
  }
}

const batch = fc
  .record({
    rows: fc.integer({ min: 1, max: 60 }),
    columns: fc.integer({ min: 1, max: 5 }),
    scored: fc.boolean(),
    signalSet: fc.string(),
    modelName: fc.string(),
    campaign: fc.string(),
    epoch: fc.maxSafeNat(),
    firstSequence: fc.maxSafeNat(),
    start: fc.integer({ min: 0, max: 8_639_999_000_000_000 }),
    delta: fc.integer({ min: 0, max: 100_000 }),
  })
  .map(({ rows, columns, scored, start, delta, ...rest }) =>
    encodeTelemetry({
      ...rest,
      modelVersion: rest.modelName,
      times: Float64Array.from({ length: rows }, (_, i) => start + i * delta),
      values: new Float32Array(rows * columns),
      scores: new Float32Array(scored ? rows : 0),
    }),
  );

describe('telemetrySpan', () => {
  it('says of a batch what the full decoder says', () => {
    fc.assert(
      fc.property(batch, (bytes) => {
        expect(span(bytes)).toEqual(decoded(bytes));
      }),
    );
  });

  it('says of a damaged batch what the full decoder says, errors included', () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(batch, damage, fc.nat(), (bytes, bytesToSet, cut) => {
        const damaged = Buffer.from(bytes);
        // The first bytes hold the fields; most of the rest are values, where nothing can be wrong.
        for (const [at, byte] of bytesToSet) damaged[at % Math.min(damaged.length, 60)] = byte;
        expect(span(damaged)).toEqual(decoded(damaged));
        const shorter = damaged.subarray(0, cut % (damaged.length + 1));
        expect(span(shorter)).toEqual(decoded(shorter));
      }),
      { numRuns: 3000 },
    );
  });

  it('says of any two batches in one what the full decoder says', () => {
    fc.assert(
      fc.property(batch, batch, (a, b) => {
        const both = Buffer.concat([a, b]);
        expect(span(both)).toEqual(decoded(both));
      }),
    );
  });
});
