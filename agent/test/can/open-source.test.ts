import { describe, expect, it } from 'vitest';
import { kernelFilters } from '../../src/can/kernel-filters.ts';
import { parseSource } from '../../src/can/open-source.ts';
import type { Dbc } from '../../src/dbc/index.ts';

describe('--can', () => {
  it.each([
    ['candump:a:b.log', { kind: 'candump', path: 'a:b.log' }],
    ['socketcan:can0', { kind: 'socketcan', interface: 'can0' }],
    ['slcan:/dev/ttyACM0', { kind: 'slcan', device: '/dev/ttyACM0', bitrate: 500_000 }],
    ['slcan:/dev/ttyACM0@250000', { kind: 'slcan', device: '/dev/ttyACM0', bitrate: 250_000 }],
    ['slcan:/dev/ttyS1,921600', { kind: 'slcan', device: '/dev/ttyS1', bitrate: 500_000, baud: 921_600 }],
    [
      'slcan:/dev/ttyS1@125000,3000000',
      { kind: 'slcan', device: '/dev/ttyS1', bitrate: 125_000, baud: 3_000_000 },
    ],
    ['udp:239.74.163.2', { kind: 'udp', group: '239.74.163.2', port: 43113 }],
    ['udp:239.74.163.2%lo:5000', { kind: 'udp', group: '239.74.163.2', interface: 'lo', port: 5000 }],
    ['udp:ff15::6173', { kind: 'udp', group: 'ff15::6173', port: 43113 }],
    ['udp:[ff15::6173%eth0]:5000', { kind: 'udp', group: 'ff15::6173', interface: 'eth0', port: 5000 }],
  ])('may be %s', (text, address) => expect(parseSource(text)).toEqual(address));

  it.each([
    '',
    'can0',
    'candump:',
    'serial:x',
    'socketcan:can0,1:2',
    'socketcan:-x',
    'slcan:/dev/x@7',
    'slcan:/dev/x,7',
    'udp:10.0.0.1',
    'udp:239.1.1.1:0',
  ])('is refused with what to use: "%s"', (text) =>
    expect(() => parseSource(text)).toThrow(
      expect.objectContaining({
        code: 'CAN_SOURCE_UNKNOWN',
        message: expect.stringContaining('Use candump:') as unknown,
      }) as Error,
    ),
  );
});

describe('filters for the kernel', () => {
  const dbc = (ids: [number, boolean][]) =>
    ({ messages: ids.map(([id, extended]) => ({ id, extended })) }) as unknown as Dbc;

  it('let exactly the ids of a small DBC pass, and no remote frames', () => {
    expect(
      kernelFilters(
        dbc([
          [0x123, false],
          [0x18fef100, true],
        ]),
      ),
    ).toEqual([
      { id: 0x123, mask: 0xc00007ff },
      { id: 0x98fef100, mask: 0xdfffffff },
    ]);
  });

  it('are at most as many as asked, and every id passes', () => {
    const ids = Array.from({ length: 900 }, (_, i): [number, boolean] => [i * 7919 * 31, true]);
    const filters = kernelFilters(dbc(ids));
    expect(filters.length).toBeLessThanOrEqual(500);
    for (const [id] of ids)
      expect(filters.some((f) => ((id + 0x8000_0000) & f.mask) >>> 0 === (f.id & f.mask) >>> 0)).toBe(true);
  });
});
