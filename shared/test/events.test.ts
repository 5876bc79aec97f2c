import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CardanError,
  cloudEvent,
  eventToRecord,
  isEvent,
  parseCloudEvent,
  recordToEvent,
  type CloudEvent,
} from '@cardan/shared';

const code = expect.objectContaining({ code: 'EVENT_MALFORMED' }) as unknown;

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 });
const event: fc.Arbitrary<CloudEvent> = fc
  .record(
    {
      type: text,
      source: text,
      id: text,
      time: fc.date({ min: new Date(0), max: new Date('9999-01-01'), noInvalidDate: true }),
      outboxepoch: text,
      sequence: text,
      data: fc.jsonValue(),
    },
    { requiredKeys: ['type', 'source', 'id', 'time', 'data'] },
  )
  .map(({ time, ...rest }) => ({
    specversion: '1.0',
    datacontenttype: 'application/json',
    time: time.toISOString(),
    ...rest,
  }));
/** As JSON has it: there is no -0. */
const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const boot = cloudEvent(
  'io.cardan.vehicle.boot',
  { source: '/vehicles/car-1', id: '7-1', time: 1_700_000_000_000 },
  { agent: '0.1.0', signalSet: 'abc' },
);

describe('a CloudEvent', () => {
  it('has the attributes that CloudEvents 1.0 requires', () => {
    expect(boot).toEqual({
      specversion: '1.0',
      type: 'io.cardan.vehicle.boot',
      source: '/vehicles/car-1',
      id: '7-1',
      time: '2023-11-14T22:13:20.000Z',
      datacontenttype: 'application/json',
      data: { agent: '0.1.0', signalSet: 'abc' },
    });
  });

  it('comes back from JSON, and from a record of the log', () => {
    fc.assert(
      fc.property(event, (sent) => {
        const received = parseCloudEvent(Buffer.from(JSON.stringify(sent)));
        expect(received).toEqual(json(sent));
        const record = eventToRecord('car-1', received);
        expect(record).toMatchObject({ key: 'car-1', timestamp: Date.parse(sent.time) });
        expect(recordToEvent(record)).toEqual(received);
      }),
    );
  });

  it('stands in the log as the Kafka binding of CloudEvents has it: ce_ headers, the data alone as value', () => {
    const record = eventToRecord('car-1', { ...boot, outboxepoch: '7', sequence: '1' });
    expect(record.headers).toEqual({
      ce_specversion: '1.0',
      ce_type: 'io.cardan.vehicle.boot',
      ce_source: '/vehicles/car-1',
      ce_id: '7-1',
      ce_time: '2023-11-14T22:13:20.000Z',
      ce_outboxepoch: '7',
      ce_sequence: '1',
      'content-type': 'application/json',
    });
    expect(json(boot.data)).toEqual(JSON.parse(record.value.toString()));
  });

  it('tells its type', () => {
    expect(isEvent(boot, 'io.cardan.vehicle.boot')).toBe(true);
    expect(isEvent(boot, 'io.cardan.vehicle.anomaly')).toBe(false);
  });

  it.each([
    ['no JSON', '{'],
    ['no object', '[]'],
    ['null', 'null'],
    ['another version', JSON.stringify({ ...boot, specversion: '0.3' })],
    ['no data', JSON.stringify({ ...boot, data: undefined })],
    ['no time', JSON.stringify({ ...boot, time: 'yesterday' })],
    ['a time before those of the log', JSON.stringify({ ...boot, time: '1969-12-31T23:59:59Z' })],
    ['a number as sequence', JSON.stringify({ ...boot, sequence: 5 })],
    ['a number as outboxepoch', JSON.stringify({ ...boot, outboxepoch: 5 })],
    ...['type', 'source', 'id', 'time'].flatMap((attribute) => [
      [`no ${attribute}`, JSON.stringify({ ...boot, [attribute]: undefined })],
      [`an empty ${attribute}`, JSON.stringify({ ...boot, [attribute]: '' })],
      [`a number as ${attribute}`, JSON.stringify({ ...boot, [attribute]: 5 })],
    ]),
  ])('is refused with %s', (_, bad = '') => {
    expect(() => parseCloudEvent(bad)).toThrow(code);
  });

  it('is refused when the record of the log is none', () => {
    const { headers, value } = eventToRecord('car-1', boot);
    expect(() => recordToEvent({ value, headers: {} })).toThrow(code);
    expect(() => recordToEvent({ value, headers: { ...headers, ce_type: '' } })).toThrow(code);
    expect(() => recordToEvent({ value: Buffer.from('{'), headers })).toThrow(code);
    expect(recordToEvent({ value: null, headers }).data).toBeNull();
  });

  it('throws nothing but a CardanError, whatever the bytes', () => {
    const input = fc.oneof(
      fc.uint8Array(),
      fc.json(),
      fc.json().map((data) => `{"specversion":"1.0","data":${data}}`),
    );
    fc.assert(
      fc.property(input, (bytes) => {
        try {
          parseCloudEvent(bytes);
        } catch (error) {
          if (!(error instanceof CardanError)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });
});
