import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseSignalSet, signalSet, SIGNALS_MAX } from '@cardan/shared';

const code = expect.objectContaining({ code: 'EVENT_MALFORMED' }) as unknown;
const speed = { name: 'Vehicle.Speed', unit: 'km/h' };
const engine = { name: 'Vehicle.Powertrain.CombustionEngine.Speed', unit: 'rpm' };

describe('a signal set', () => {
  it('has the id that any language computes', () => {
    // Python: hashlib.sha256('[["Vehicle.Speed","km/h"],["Vehicle.…","rpm"]]'.encode()).hexdigest()[:16]
    expect(signalSet([speed, engine]).id).toBe('2393b2e246698191');
    expect(signalSet([{ name: 'Temp Öl', unit: '°C' }]).id).toBe('491d2fb3d90b1dd7');
  });

  it('is another one when a name, a unit or the order is another', () => {
    const ids = [
      [speed, engine],
      [engine, speed],
      [speed],
      [speed, { ...engine, unit: '' }],
      [{ ...speed, name: 'Vehicle.speed' }, engine],
    ].map((signals) => signalSet(signals).id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('keeps names and units only', () => {
    const more = { ...speed, comment: 'from the dash' };
    expect(signalSet([more])).toEqual(signalSet([speed]));
    expect(signalSet([more]).signals).toEqual([speed]);
  });

  it('comes back from JSON', () => {
    const signal = fc.record({ name: fc.string({ unit: 'binary', minLength: 1 }), unit: fc.string() });
    fc.assert(
      fc.property(fc.array(signal, { minLength: 1, maxLength: 50 }), (signals) => {
        const set = signalSet(signals);
        expect(parseSignalSet(JSON.parse(JSON.stringify(set)))).toEqual(set);
      }),
    );
  });

  const signals = [speed];
  it.each([
    ['null', null],
    ['text', 'signals'],
    ['no list', { signals: {} }],
    ['an empty list', { signals: [] }],
    [
      'too many',
      { signals: Array.from({ length: SIGNALS_MAX + 1 }, (_, i) => ({ name: `s${i}`, unit: '' })) },
    ],
    ['a signal that is null', { signals: [null] }],
    ['a signal without a name', { signals: [{ name: '', unit: '' }] }],
    ['a signal without a unit', { signals: [{ name: 'x' }] }],
    ['the id of another', { id: signalSet([engine]).id, signals }],
    ['an id that is none', { id: null, signals }],
  ])('is refused when it is %s', (_, value) => {
    expect(() => parseSignalSet(value)).toThrow(code);
  });
});
