import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CardanError } from '@cardan/shared';
import { parseFilter, type VehicleAttributes } from '../../src/rollout/filter.ts';

const VAN: VehicleAttributes = {
  id: 'van-7',
  model: 'Sprinter 316',
  year: 2021,
  depot: 'Köln',
  electric: false,
  firmware: '1.10.2',
  odd: 'a*b',
};

test.each([
  ['', true],
  ['id==van-7', true],
  ['id==van-8', false],
  ['id!=van-8', true],
  ['id==van-*', true],
  ['id==*7', true],
  ['id==v*-*7', true],
  ['id==van-7*7', false],
  ['id!=van-*', false],
  ['model=="Sprinter 316"', true],
  ["model=='Sprinter *'", true],
  ["odd=='a\\*b'", true],
  ["id=='v\\*'", false],
  ['year==2021', true],
  ['year==2021.0', true],
  ['year=gt=2020', true],
  ['year>2020', true],
  ['year=ge=2021;year=le=2021', true],
  ['year<2021', false],
  ['year=gt=new', false],
  ['year=lt=new', false],
  ['electric==false', true],
  ['depot=in=(Bonn,Köln)', true],
  ['depot=in=(Bonn,K*)', true],
  ['depot=out=(Bonn,Köln)', false],
  ['colour==red', false],
  ['colour!=red', true],
  ['colour=out=(red,blue)', true],
  ['colour=gt=1', false],
  // ";" binds closer than ",".
  ['id==x,year==2021;depot==Bonn', false],
  ['(id==x,year==2021);depot==Köln', true],
  ['id==x or year==2021 and depot==Köln', true],
  [' ( id == van-7 ) ', true],
  // No attribute of a vehicle, though every object has it.
  ['constructor==*', false],
])('%s', (filter, fits) => {
  expect(parseFilter(filter)(VAN)).toBe(fits);
});

test.each([
  ['id', 'its end: an operator'],
  ['id=van', 'character 3 (=)'],
  ['id==', 'its end: a value'],
  ['id==a;', 'its end: the name of an attribute'],
  ['(id==a', 'the "(" of character 1 is not closed'],
  ['id==a)', 'character 6 ())'],
  ['id=like=a', 'character 3 (=): there is no operator =like='],
  ['id=="a', 'character 5 ("): this quote is not closed'],
  ['id=in=(a;b)', 'character 9 (;)'],
  ['id==a b==c', 'character 7 (b)'],
])('%s is refused with its place', (filter, place) => {
  expect(() => parseFilter(filter)).toThrow(place);
});

test('depth and length are bounded', () => {
  expect(() => parseFilter('('.repeat(21))).toThrow('more than 20 groups');
  expect(() => parseFilter(`id==${'x'.repeat(4093)}`)).toThrow('at most 4096');
  expect(() => parseFilter(`id=in=(${'a,'.repeat(500)}a)`)).toThrow('more than 500 values');
});

test('any text is a filter or FILTER_INVALID', () => {
  const piece = fc.constantFrom(
    'id',
    '==',
    '=in=',
    '(',
    ')',
    ';',
    ',',
    '*',
    'a',
    '"',
    "'",
    '\\',
    ' ',
    '<',
    'and ',
    'x',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      try {
        expect(typeof parseFilter(pieces.join(''))(VAN)).toBe('boolean');
      } catch (error) {
        expect(error).toBeInstanceOf(CardanError);
        expect((error as CardanError).code).toBe('FILTER_INVALID');
      }
    }),
    { numRuns: 2000 },
  );
});

test('wildcards fit what a regular expression fits', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8, minLength: 1 });
  const text = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 8 });
  fc.assert(
    fc.property(word, text, (pattern, id) => {
      const expected = new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(id);
      expect(parseFilter(`id==${pattern}`)({ id })).toBe(expected);
    }),
    { numRuns: 2000 },
  );
});
