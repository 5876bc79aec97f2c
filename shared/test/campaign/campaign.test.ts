import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CardanError } from '../../src/errors.ts';
import { parseCampaign, readCampaign } from '../../src/campaign/campaign.ts';
import { globFits, isForVehicle } from '../../src/campaign/vehicles.ts';

const DOCUMENT = {
  schema: 1,
  id: 'hot',
  name: 'Hot',
  version: '2',
  vehicles: { ids: ['van-*'], attributes: { engine: 'diesel' } },
  start: '2026-01-01T00:00:00Z',
  expiry: '2027-01-01T00:00:00+01:00',
  priority: 7,
  compression: 'gzip',
  persistence: 'memory',
  signals: ['Speed', { name: 'Temp', as: 'Vehicle.Temp' }, { name: 'Rpm' }],
  collection: {
    type: 'condition',
    when: 'Speed > 1',
    trigger: 'always',
    minIntervalMs: 1,
    beforeMs: 2,
    afterMs: 3,
  },
  rawFrames: { ids: ['7E8', '18FEF100', '00000123'], maxPerSecond: 5 },
};

/** The error's message; fails when there is none, or another one than CAMPAIGN_INVALID. */
function refusal(value: unknown): string {
  try {
    readCampaign(value);
  } catch (error) {
    if (error instanceof CardanError && error.code === 'CAMPAIGN_INVALID') return error.message;
    throw error;
  }
  throw new Error('It was taken.');
}

describe('A campaign document', () => {
  it('becomes a domain type, with names, times and ids resolved', () => {
    const campaign = parseCampaign(JSON.stringify(DOCUMENT));
    expect(campaign.start).toBe(Date.UTC(2026, 0, 1));
    expect(campaign.expiry).toBe(Date.UTC(2026, 11, 31, 23));
    expect(campaign.signals).toEqual([
      { name: 'Speed', as: 'Speed' },
      { name: 'Temp', as: 'Vehicle.Temp' },
      { name: 'Rpm', as: 'Rpm' },
    ]);
    expect(campaign.rawFrames?.ids).toEqual([
      { id: 0x7e8, extended: false },
      { id: 0x18fef100, extended: true },
      { id: 0x123, extended: true },
    ]);
  });

  it('needs only what has no sensible default', () => {
    const campaign = readCampaign({
      schema: 1,
      id: 'a',
      name: 'A',
      version: '1',
      vehicles: 'all',
      signals: ['Speed'],
      collection: { type: 'condition', when: 'Speed > 1' },
    });
    expect(campaign).toMatchObject({
      priority: 0,
      compression: 'none',
      persistence: 'disk',
      start: -Infinity,
      expiry: Infinity,
      collection: { trigger: 'rising-edge', minIntervalMs: 0, beforeMs: 0, afterMs: 0 },
    });
  });

  it.each([
    [{ signals: ['Speed', 7] }, 'campaign.signals[1]'],
    [{ signals: [{ name: 'Speed', as: '' }] }, 'campaign.signals[0].as'],
    [{ signals: ['Speed', { name: 'Rpm', as: 'Speed' }] }, 'campaign.signals[1] is a second column "Speed"'],
    [{ priority: 10 }, 'campaign.priority is 10; it must be a whole number from 0 to 9'],
    [{ compression: 'lz4' }, 'campaign.compression is "lz4"; known are: none, gzip, zstd'],
    [{ expiry: '2025-01-01T00:00:00Z' }, 'campaign.expiry is not after campaign.start'],
    [{ start: '2026-13-01T00:00:00Z' }, 'campaign.start is 2026-13-01T00:00:00Z, which is no time'],
    [{ vehicles: {} }, 'campaign.vehicles has neither'],
    [{ vehicles: 'some' }, 'campaign.vehicles must be "all"'],
    [{ vehicles: { ids: ['a/b'] } }, 'campaign.vehicles.ids[0]'],
    [{ rawFrames: { ids: ['8FF'], maxPerSecond: 1 } }, 'campaign.rawFrames.ids[0]'],
    [{ collection: { type: 'time', periodMs: 1 } }, 'campaign.collection.periodMs'],
    [{ collection: { type: 'condition', when: 'Speed >' } }, 'campaign.collection.when, character 8:'],
    [
      { collection: { type: 'time', periodMs: 1000, beforeMs: 1 } },
      'campaign.collection.beforeMs is not known',
    ],
    [{ later: true }, 'campaign.later is not known here'],
    [{ name: undefined, version: 1 }, 'campaign.name is not a string'],
  ])('names the place of what is wrong: %j', (change, place) => {
    expect(refusal({ ...DOCUMENT, ...change })).toContain(place);
  });

  it('is refused, never crashed on, whatever the bytes are', () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string(), fc.uint8Array()), (input) => {
        try {
          parseCampaign(input);
        } catch (error) {
          expect(error).toMatchObject({ code: 'CAMPAIGN_INVALID' });
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('The published schema', () => {
  // The validator that fastify brings along.
  const require = createRequire(import.meta.url);
  const compiler = createRequire(createRequire(require.resolve('fastify')).resolve('@fastify/ajv-compiler'));
  const { default: Ajv } = compiler('ajv/dist/2020.js') as {
    default: new (options: object) => { compile: (schema: unknown) => (value: unknown) => boolean };
  };
  const schema: unknown = JSON.parse(
    readFileSync(new URL('../../schema/campaign.schema.json', import.meta.url), 'utf8'),
  );
  const valid = new Ajv({ strict: true, strictRequired: false }).compile(schema);
  /** What the schema's own description says that it cannot say. */
  const BEYOND = /which is no time|is not after campaign\.start|is a second column|\.when, character \d+:/;

  it('takes the examples, as the parser does', () => {
    const folder = new URL('../../../agent/examples/', import.meta.url);
    const files = readdirSync(folder).filter((name) => name.endsWith('.campaign.json'));
    expect(files.length).toBeGreaterThanOrEqual(3);
    for (const file of files) {
      const value: unknown = JSON.parse(readFileSync(new URL(file, folder), 'utf8'));
      expect(valid(value), file).toBe(true);
      readCampaign(value);
    }
  });

  it('agrees with the parser on documents that are changed at random', () => {
    const paths = pathsOf(DOCUMENT);
    const odd = fc.oneof(
      fc.constantFrom<unknown>(
        ...[
          null,
          true,
          0,
          1,
          -1,
          0.5,
          1e9,
          '',
          'all',
          'a',
          'a b',
          '7E8',
          '800',
          '20000000',
          '1FFFFFFF',
          '*',
          'time',
        ],
        ...[
          'condition',
          'none',
          'é',
          '\u0085',
          '😀'.repeat(200),
          '😀'.repeat(201),
          'x'.repeat(64),
          'x'.repeat(65),
        ],
        ...[
          'always',
          "it's",
          'a\n',
          '.a',
          [],
          {},
          ['a'],
          [1],
          { name: 'a' },
          { ids: ['a'] },
          { a: 'b' },
          '2026-01-01T00:00:00Z',
        ],
        ...[
          { attributes: {} },
          { ids: [] },
          { type: 'time', periodMs: 10 },
          { type: 'time', periodMs: 1e3, when: 'a' },
        ],
        { type: 'condition', when: 'a > 1' },
      ),
      fc.jsonValue(),
    );
    const change = fc.record({
      path: fc.constantFrom(...paths),
      action: fc.constantFrom('set', 'remove', 'add', 'push'),
      value: odd,
    });
    let taken = 0;
    let refused = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 2 }), (changes) => {
        const document = structuredClone<unknown>(DOCUMENT);
        // Each with a value of its own: what one change puts in, the next may go into.
        for (const { path, action, value } of changes) alter(document, path, action, structuredClone(value));
        if (valid(document)) {
          taken++;
          try {
            readCampaign(document);
          } catch (error) {
            expect((error as Error).message).toMatch(BEYOND);
          }
        } else {
          refused++;
          refusal(document);
        }
      }),
      { numRuns: 3000 },
    );
    // Otherwise the test would say nothing.
    expect(Math.min(taken, refused)).toBeGreaterThan(100);
  });
});

describe('The vehicles of a campaign', () => {
  const campaign = readCampaign(DOCUMENT);

  it('are those whose id fits one glob and whose attributes are all equal', () => {
    expect(isForVehicle(campaign, { id: 'van-7', attributes: { engine: 'diesel', year: '2020' } })).toBe(
      true,
    );
    expect(isForVehicle(campaign, { id: 'car-7', attributes: { engine: 'diesel' } })).toBe(false);
    expect(isForVehicle(campaign, { id: 'van-7', attributes: { engine: 'petrol' } })).toBe(false);
    expect(isForVehicle(campaign, { id: 'van-7' })).toBe(false);
  });

  it('may have any id that a vehicle can have', () => {
    const vehicles = { ids: ['fleet_1:van.7-a'] };
    expect(isForVehicle(readCampaign({ ...DOCUMENT, vehicles }), { id: 'fleet_1:van.7-a' })).toBe(true);
  });

  it('are everybody with "all"', () => {
    expect(isForVehicle(readCampaign({ ...DOCUMENT, vehicles: 'all' }), { id: 'x' })).toBe(true);
  });

  it('fit a glob as a regular expression would', () => {
    const part = fc.string({ unit: fc.constantFrom('a', 'b', '-', '.', '*', '?'), maxLength: 8 });
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '-', '.'), maxLength: 8 });
    fc.assert(
      fc.property(part, text, (glob, id) => {
        const pattern = glob.replaceAll('.', '\\.').replaceAll('?', '.').replaceAll(/\*+/g, '.*');
        expect(globFits(glob, id)).toBe(new RegExp(`^${pattern}$`).test(id));
      }),
    );
  });
});

type Path = (string | number)[];

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, below]) => pathsOf(below, [...path, key]))].filter(
    (found) => found.length > 0,
  );
}

function alter(root: unknown, path: Path, action: string, value: unknown): void {
  let parent = root as Record<string, unknown> | null | undefined;
  for (const key of path.slice(0, -1)) {
    if (typeof parent !== 'object' || parent === null) return;
    parent = parent[key] as typeof parent;
  }
  if (typeof parent !== 'object' || parent === null) return;
  const key = path.at(-1)!;
  if (action === 'set') parent[key] = value;
  else if (action === 'remove') {
    if (Array.isArray(parent)) parent.splice(Number(key), 1);
    else delete parent[key];
  } else if (Array.isArray(parent)) parent.push(value);
  else parent.extra = value;
}
