import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isForVehicleId, type VehicleSelector } from '@cardan/shared';
import { SelectorIndex } from '../../src/registry/selector-index.ts';

test('the index finds every selector that is for a vehicle, each once', () => {
  const letters = (...of: string[]) =>
    fc.array(fc.constantFrom(...of), { minLength: 1, maxLength: 4 }).map((parts) => parts.join(''));
  const selector = fc.oneof(
    fc.constant<VehicleSelector>({ attributes: {} }),
    fc.array(letters('a', 'b', '*', '?'), { maxLength: 4 }).map((ids) => ({ ids, attributes: {} })),
  );
  fc.assert(
    fc.property(fc.array(selector, { maxLength: 12 }), letters('a', 'b'), (selectors, vehicle) => {
      const index = new SelectorIndex<VehicleSelector>();
      for (const selector of selectors) index.add(selector, selector);
      const candidates = index.candidates(vehicle);
      const wanted = selectors.filter((selector) => isForVehicleId(selector, vehicle));
      expect([...candidates].filter((selector) => isForVehicleId(selector, vehicle)).length).toBe(
        new Set(wanted).size,
      );
      for (const selector of wanted) expect(candidates.has(selector)).toBe(true);
    }),
  );
});

test('campaigns for other cars are not looked at', () => {
  const index = new SelectorIndex<string>();
  index.add({ ids: ['van-*', 'van-7'], attributes: {} }, 'vans');
  index.add({ ids: ['car-1', 'car-2'], attributes: {} }, 'two cars');
  index.add({ ids: ['*-1'], attributes: {} }, 'first ones');
  index.add({ attributes: { region: 'north' } }, 'north');
  expect([...index.candidates('car-2')].sort()).toEqual(['first ones', 'north', 'two cars']);
  expect([...index.candidates('van-7')].sort()).toEqual(['first ones', 'north', 'vans']);
  expect([...index.candidates('bus-7')].sort()).toEqual(['first ones', 'north']);
});
