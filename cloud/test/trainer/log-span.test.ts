import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { logSpan, timesOf } from '../../src/trainer/log-span.ts';
import { spanOptions, type SpanOptions } from '../../src/trainer/span-options.ts';

/** What a command line says. */
function parse(...args: string[]) {
  const command = spanOptions(new Command('trainer'))
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  return logSpan(command.parse(args, { from: 'user' }).opts<SpanOptions>());
}
const usage = expect.objectContaining({ name: 'CardanError', code: 'USAGE' }) as unknown;

describe('what a trainer reads', () => {
  it('is all, and what comes, unless it is told', () => {
    expect(parse()).toEqual({ from: 'earliest' });
    expect(parse('--from', 'latest')).toEqual({ from: 'latest' });
  });

  it('is a span of time, with any zone', () => {
    const span = parse('--from', '2026-01-01T00:00Z', '--to', '2026-01-02T01:00:00+01:00');
    expect(span).toEqual({ from: new Date('2026-01-01T00:00Z'), to: new Date('2026-01-02T00:00Z') });
    expect(timesOf(span)).toEqual({ from: Date.UTC(2026, 0, 1), to: Date.UTC(2026, 0, 2) });
    expect(parse('--from', '2026-01-01')).toEqual({ from: new Date('2026-01-01T00:00Z') });
  });

  it('is a whole topic until now, or some partitions of it', () => {
    const span = parse('--from', 'earliest', '--to', 'now', '--partitions', '0,3,3');
    expect(span).toEqual({ from: 'earliest', to: 'latest', partitions: [0, 3] });
    expect(timesOf(span)).toBeUndefined();
  });

  it('is ranges of offsets, or from offsets on', () => {
    expect(parse('--offsets', '0:100-200,3:0-50')).toEqual({
      from: { 0: 100, 3: 0 },
      to: { 0: 200, 3: 50 },
      partitions: [0, 3],
    });
    expect(parse('--offsets', '2:7')).toEqual({ from: { 2: 7 }, partitions: [2] });
  });

  it.each([
    ['--from', 'yesterday'],
    ['--from', '2026-01-01T00:00'], // whose midnight?
    ['--from', '2026-13-01'],
    ['--from', 'now'],
    ['--to', 'earliest'],
    ['--partitions', '0,a'],
    ['--partitions', ''],
    ['--offsets', '0'],
    ['--offsets', '0:5-3'],
    ['--offsets', '0:1-2,0:3-4'],
    ['--offsets', '0:1-2,1:3'],
    ['--rows-per-second', '0'],
  ])('is not %s %s', (flag, value) => {
    expect(() => parse(flag, value)).toThrow(
      expect.objectContaining({ code: 'commander.invalidArgument' }) as Error,
    );
  });

  it('is not two things at once', () => {
    for (const args of [
      ['--from', 'latest', '--to', 'now'],
      ['--from', '2026-01-02', '--to', '2026-01-01'],
      ['--offsets', '0:1-2', '--from', 'earliest'],
      ['--offsets', '0:1-2', '--partitions', '0'],
    ])
      expect(() => parse(...args)).toThrow(usage);
  });
});
