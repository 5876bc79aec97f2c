import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import {
  BATCH_ROWS_MAX,
  CardanError,
  decodeScores,
  decodeTelemetry,
  encodeScores,
  encodeTelemetry,
  type ScoreBatch,
  type TelemetryBatch,
} from '@cardan/shared';

// The oracle: a general protobuf library on the schema that we publish.
const root = protobuf.loadSync(fileURLToPath(new URL('../proto/telemetry.proto', import.meta.url)));
const TelemetryMessage = root.lookupType('cardan.v1.TelemetryBatch');
const ScoreMessage = root.lookupType('cardan.v1.ScoreBatch');

const code = expect.objectContaining({ code: 'TELEMETRY_MALFORMED' }) as unknown;

/** Any 32 bits of a float: subnormals, infinities, NaN. */
const floats = (length: number) => fc.float32Array({ minLength: length, maxLength: length });
const whole = fc.maxSafeNat();
const startTime = fc.nat({ max: 4_000_000_000_000 });
const text = fc.string({ unit: 'grapheme', maxLength: 30 });

const times = (rows: number) =>
  fc
    .tuple(startTime, fc.array(fc.nat({ max: 0xffffffff }), { minLength: rows - 1, maxLength: rows - 1 }))
    .map(([start, deltas]) => {
      let time = start;
      return Float64Array.of(start, ...deltas.map((delta) => (time += delta)));
    });

const telemetry: fc.Arbitrary<TelemetryBatch> = fc
  .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 20 }), fc.boolean(), fc.boolean())
  .chain(([rows, signals, scored, ofCampaign]) =>
    fc.record({
      signalSet: fc.string({ minLength: 1, maxLength: 20 }),
      epoch: whole,
      firstSequence: whole,
      times: times(rows),
      values: floats(rows * signals),
      scores: floats(scored ? rows : 0),
      modelName: text,
      modelVersion: text,
      ...(ofCampaign ? { campaign: fc.constantFrom('brakes', 'tyres') } : {}),
    }),
  );

const scores: fc.Arbitrary<ScoreBatch> = fc.integer({ min: 1, max: 60 }).chain((rows) =>
  fc.record({
    epoch: whole,
    firstSequence: whole,
    times: times(rows),
    scores: floats(rows),
    modelName: text,
    modelVersion: text,
    threshold: fc.float({ noNaN: true }).map((x) => x + 0 || 0),
    signalSet: fc.stringMatching(/^[0-9a-f]{16}$/),
    contributions: contributions(rows),
  }),
);

/** Some of the rows, with as many signals each; undefined for none. */
function contributions(rowsMax: number): fc.Arbitrary<ScoreBatch['contributions']> {
  const indexes = fc.uniqueArray(fc.nat({ max: rowsMax - 1 }), { maxLength: rowsMax });
  return fc.tuple(indexes, fc.integer({ min: 1, max: 3 })).chain(([rows, signals]) =>
    fc
      .tuple(
        fc.array(fc.nat({ max: 499 }), {
          minLength: rows.length * signals,
          maxLength: rows.length * signals,
        }),
        floats(rows.length * signals),
      )
      .map(([named, parts]) =>
        rows.length === 0
          ? undefined
          : { rows: Uint32Array.from(rows).sort(), signals: Uint32Array.from(named), parts },
      ),
  );
}

const deltasOf = (all: Float64Array) => Array.from(all, (time, i) => time - (all[i - 1] ?? time));

/** The batch as the oracle has it. Numbers of 64 bits are strings there, as they may not fit a double. */
const telemetryObject = (batch: TelemetryBatch) => ({
  signalSet: batch.signalSet,
  outboxEpoch: String(batch.epoch),
  firstSequence: String(batch.firstSequence),
  startTimeMs: String(batch.times[0]),
  timeDeltaMs: deltasOf(batch.times),
  values: Array.from(batch.values),
  scores: Array.from(batch.scores),
  modelName: batch.modelName,
  modelVersion: batch.modelVersion,
  campaign: batch.campaign ?? '',
});
const scoresObject = (batch: ScoreBatch) => ({
  outboxEpoch: String(batch.epoch),
  firstSequence: String(batch.firstSequence),
  startTimeMs: String(batch.times[0]),
  timeDeltaMs: deltasOf(batch.times),
  scores: Array.from(batch.scores),
  modelName: batch.modelName,
  modelVersion: batch.modelVersion,
  threshold: batch.threshold,
  signalSet: batch.signalSet,
  contributionRows: Array.from(batch.contributions?.rows ?? []),
  contributionSignals: Array.from(batch.contributions?.signals ?? []),
  contributionParts: Array.from(batch.contributions?.parts ?? []),
});
const asObject = (type: protobuf.Type, bytes: Uint8Array) =>
  type.toObject(type.decode(bytes), { longs: String, defaults: true, arrays: true });

const example: TelemetryBatch = {
  signalSet: '0123456789abcdef',
  epoch: 7,
  firstSequence: 100,
  times: Float64Array.of(1_700_000_000_000, 1_700_000_001_000),
  values: Float32Array.of(1, 2, 3, 4, 5, Number.NaN),
  scores: Float32Array.of(0.5, 0.25),
  modelName: 'engine',
  modelVersion: '3',
};

describe('TelemetryBatch', () => {
  it('is read by protobufjs as what it was', () => {
    fc.assert(
      fc.property(telemetry, (batch) => {
        expect(asObject(TelemetryMessage, encodeTelemetry(batch))).toEqual(telemetryObject(batch));
      }),
    );
  });

  it('is read from what protobufjs wrote', () => {
    fc.assert(
      fc.property(telemetry, (batch) => {
        const bytes = TelemetryMessage.encode(TelemetryMessage.fromObject(telemetryObject(batch))).finish();
        expect(decodeTelemetry(bytes)).toEqual(batch);
      }),
    );
  });

  it('names the campaign only when there is one', () => {
    expect(decodeTelemetry(encodeTelemetry(example))).not.toHaveProperty('campaign');
    expect(decodeTelemetry(encodeTelemetry({ ...example, campaign: 'brakes' })).campaign).toBe('brakes');
  });

  it('comes back bit for bit, wherever its bytes begin in memory', () => {
    fc.assert(
      fc.property(telemetry, fc.nat(7), fc.boolean(), (batch, offset, asBuffer) => {
        const bytes = encodeTelemetry(batch);
        const memory = asBuffer ? Buffer.alloc(bytes.length + 8) : new Uint8Array(bytes.length + 8);
        memory.set(bytes, offset);
        const read = decodeTelemetry(memory.subarray(offset, offset + bytes.length));
        expect(read).toEqual(batch);
        const bits = (array: Float32Array) => new Uint32Array(array.slice().buffer);
        expect(bits(read.values)).toEqual(bits(batch.values));
      }),
    );
  });

  it('is a view of the bytes where these are aligned, and a copy where not', () => {
    const bytes = encodeTelemetry(example);
    const at = bytes.indexOf(Buffer.from(example.values.buffer));
    const views = [0, 1, 2, 3].map((offset) => {
      const memory = new ArrayBuffer(bytes.length + 8);
      const placed = new Uint8Array(memory, offset, bytes.length);
      placed.set(bytes);
      return decodeTelemetry(placed).values.buffer === memory;
    });
    expect(views).toEqual([0, 1, 2, 3].map((offset) => (at + offset) % 4 === 0));
  });

  it('skips fields that a later version may have added', () => {
    const later = protobuf
      .parse(
        'syntax = "proto3"; message Later { string s = 1; fixed64 a = 20; fixed32 b = 21; string c = 22; int64 d = 900; }',
      )
      .root.lookupType('Later');
    const extra = later.encode(later.fromObject({ a: 1, b: 2, c: 'three', d: -1 })).finish();
    const bytes = Buffer.concat([encodeTelemetry(example), extra]);
    expect(decodeTelemetry(bytes)).toEqual(example);
  });

  it('refuses what is no batch, with an error of its own', () => {
    const { values, scores, times } = example;
    const bad: [string, Buffer][] = [
      ['nothing', Buffer.alloc(0)],
      ['no rows', encodeTelemetry({ ...example, times: times.subarray(0, 0) })],
      ['no signal set', encodeTelemetry({ ...example, signalSet: '' })],
      ['values that fill no row', encodeTelemetry({ ...example, values: values.subarray(1) })],
      ['no values', encodeTelemetry({ ...example, values: values.subarray(0, 0) })],
      ['scores for other rows', encodeTelemetry({ ...example, scores: scores.subarray(1) })],
      ['a wrong wire type', Buffer.of(0x08, 0x01)],
      ['field 0', Buffer.of(0x00, 0x01)],
      ['a group', Buffer.of(0xa3, 0x01)],
      ['a number without end', Buffer.of(0x10, ...Array<number>(10).fill(0xff), 0x01)],
      ['a number over 2^53', Buffer.of(0x10, ...Array<number>(8).fill(0xff), 0x01)],
      [
        'too many rows',
        encodeTelemetry({
          ...example,
          times: new Float64Array(BATCH_ROWS_MAX + 1),
          values: new Float32Array(BATCH_ROWS_MAX + 1),
          scores: new Float32Array(0),
        }),
      ],
      ['a time that no calendar has', encodeTelemetry({ ...example, times: Float64Array.of(9e15, 9e15) })],
    ];
    for (const [what, bytes] of bad) expect(() => decodeTelemetry(bytes), what).toThrow(code);
  });

  it('refuses every part that is cut off', () => {
    const bytes = encodeTelemetry({ ...example, modelName: '', modelVersion: '' });
    for (let length = 0; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length);
      try {
        // Cut between two fields, what is left may be a batch without scores.
        expect(decodeTelemetry(cut).scores).toHaveLength(0);
      } catch (error) {
        expect(error).toEqual(code);
      }
    }
  });

  it('is written only from numbers that it can carry', () => {
    for (const bad of [
      { times: Float64Array.of(1000, 999) },
      { times: Float64Array.of(0, 0.5) },
      { times: Float64Array.of(1000.5, 1001.5) },
      { times: Float64Array.of(-1000, 0) },
      { times: Float64Array.of(0, 2 ** 32) },
      { times: Float64Array.of(Number.NaN, 0) },
      { epoch: -1 },
      { epoch: 1.5 },
      { firstSequence: 2 ** 53 },
    ])
      expect(() => encodeTelemetry({ ...example, ...bad }), JSON.stringify(bad)).toThrow(code);
  });
});

describe('ScoreBatch', () => {
  it('is read by protobufjs as what it was, and back', () => {
    fc.assert(
      fc.property(scores, (batch) => {
        const bytes = encodeScores(batch);
        expect(asObject(ScoreMessage, bytes)).toEqual(scoresObject(batch));
        expect(
          decodeScores(ScoreMessage.encode(ScoreMessage.fromObject(scoresObject(batch))).finish()),
        ).toEqual(batch);
        expect(decodeScores(bytes)).toEqual(batch);
      }),
    );
  });

  it('refuses scores for other rows', () => {
    const batch = { ...example, threshold: 1, scores: Float32Array.of(1, 2, 3) };
    expect(() => decodeScores(encodeScores(batch))).toThrow(code);
  });

  it('refuses contributions that belong to no row, or not the same number to each', () => {
    const batch = { ...example, threshold: 1 };
    const of = (rows: number[], signals: number[], parts: number[]) =>
      encodeScores({
        ...batch,
        contributions: {
          rows: Uint32Array.from(rows),
          signals: Uint32Array.from(signals),
          parts: Float32Array.from(parts),
        },
      });
    const last = batch.times.length - 1;
    expect(decodeScores(of([last], [2, 0], [0.5, 0.25])).contributions?.signals).toEqual(
      Uint32Array.of(2, 0),
    );
    for (const bad of [
      of([last + 1], [0], [1]),
      of([0, 0], [0, 1], [1, 1]),
      of([0, 1], [0, 1, 2], [1, 1, 1]),
      of([0], [0, 1], [1]),
      of([0], [], []),
      of([], [0], [1]),
    ])
      expect(() => decodeScores(bad)).toThrow(code);
  });
});

it.each([
  ['decodeTelemetry', decodeTelemetry, encodeTelemetry(example)],
  [
    'decodeScores',
    decodeScores,
    encodeScores({
      ...example,
      threshold: 1,
      contributions: {
        rows: Uint32Array.of(0),
        signals: Uint32Array.of(1, 0),
        parts: Float32Array.of(0.5, 0.25),
      },
    }),
  ],
] as const)('%s throws nothing but a CardanError, whatever the bytes', (_, decode, valid) => {
  const tryIt = (bytes: Uint8Array) => {
    try {
      decode(bytes);
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      expect(error.code).toBe('TELEMETRY_MALFORMED');
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), tryIt), { numRuns: 3000 });
  // Close to valid goes deeper: some bytes of a real batch changed.
  const changes = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(changes, (all) => {
      const bytes = Uint8Array.from(valid);
      for (const [at, byte] of all) bytes[at] = byte;
      tryIt(bytes);
    }),
    { numRuns: 3000 },
  );
});
