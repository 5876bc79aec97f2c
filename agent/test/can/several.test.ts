import { describe, expect, it } from 'vitest';
import { busMetrics, busSummary } from '../../src/can/bus-figures.ts';
import type { CanFrame, CanSource } from '../../src/can/can-frame.ts';
import { FrameQueue } from '../../src/can/frame-queue.ts';
import { SeveralSources } from '../../src/can/several.ts';

const frame = (id: number): CanFrame => ({ time: 0, id, extended: false, fd: false, data: Buffer.of(1) });

/** A bus that gives what is pushed, until it is ended or aborted. */
class PushedSource implements CanSource {
  malformed = 0;
  dropped = 0;
  closed = false;
  readonly queue = new FrameQueue();

  async *frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    const stop = () => this.queue.end();
    signal.addEventListener('abort', stop);
    try {
      yield* this.queue.batches();
    } finally {
      this.closed = true;
    }
  }
}

describe('several buses as one', () => {
  it('gives the frames of each in their order, and ends with the last one', async () => {
    const [a, b] = [new PushedSource(), new PushedSource()];
    const source = new SeveralSources([a, b], ['a', 'b']);
    for (let i = 0; i < 2000; i++) (i % 3 === 0 ? a : b).queue.push(frame(i));
    a.queue.end();
    const batches = source.frames(new AbortController().signal);
    const got: number[] = [];
    for await (const batch of batches) {
      got.push(...batch.map(({ id }) => id));
      if (got.length === 2000) b.queue.end();
    }
    const all = Array.from({ length: 2000 }, (_, i) => i);
    expect(got.filter((id) => id % 3 === 0)).toEqual(all.filter((id) => id % 3 === 0));
    expect(got.filter((id) => id % 3 !== 0)).toEqual(all.filter((id) => id % 3 !== 0));
  });

  it('lets a busy bus not keep a quiet one waiting', async () => {
    const [busy, quiet] = [new PushedSource(), new PushedSource()];
    for (let i = 0; i < 60_000; i++) busy.queue.push(frame(0));
    quiet.queue.push(frame(1));
    let before = 0;
    for await (const batch of new SeveralSources([busy, quiet]).frames(new AbortController().signal)) {
      if (batch[0]!.id === 1) break;
      before++;
    }
    expect(before).toBeLessThan(3);
    expect([busy.closed, quiet.closed]).toEqual([true, true]);
  });

  it('counts each bus for itself, and tells which are open', async () => {
    const [a, b] = [new PushedSource(), new PushedSource()];
    const source = new SeveralSources([a, b], ['udp:239.1.1.1', 'udp:239.1.1.1']);
    const stop = new AbortController();
    const batches = source.frames(stop.signal);
    a.queue.push(frame(1));
    a.queue.push(frame(2));
    await batches.next();
    a.malformed = 3;
    b.dropped = 4;
    b.queue.end();
    a.queue.push(frame(3));
    await batches.next();
    const none = { received: 0, malformed: 0, dropped: 0, errors: 0 };
    expect(source.counters).toEqual({
      'udp:239.1.1.1': { ...none, state: 'open', received: 3, malformed: 3 },
      'udp:239.1.1.1 (2)': { ...none, state: 'closed', dropped: 4 },
    });
    expect([source.malformed, source.dropped]).toEqual([3, 4]);
    stop.abort();
    expect((await batches.next()).done).toBe(true);
    expect(Object.values(source.counters).map(({ state }) => state)).toEqual(['closed', 'closed']);
  });

  it('fails when one fails, and closes the others', async () => {
    const [a, b] = [new PushedSource(), new PushedSource()];
    a.queue.end(new Error('broken'));
    await expect(new SeveralSources([a, b]).frames(new AbortController().signal).next()).rejects.toThrow(
      'broken',
    );
    expect(b.closed).toBe(true);
  });

  it('ends at once when it is aborted before it begins', async () => {
    const source = new SeveralSources([new PushedSource()]);
    const signal = AbortSignal.abort();
    const [only] = source.sources as [PushedSource];
    only.queue.end();
    expect((await source.frames(signal).next()).done).toBe(true);
  });
});

describe('figures of the buses', () => {
  const buses = {
    'socketcan:can0': { state: 'bus-off', received: 7, malformed: 1, dropped: 2, errors: 3 },
    'candump:a"b\\c': { state: 'open', received: 0, malformed: 0, dropped: 0, errors: 0 },
  } as const;

  it('are metrics with help and type once, a line per bus, and a line per state', () => {
    const lines = busMetrics(buses).trimEnd().split('\n');
    expect(lines.filter((line) => line.startsWith('# TYPE'))).toEqual([
      '# TYPE cardan_agent_bus_frames_total counter',
      '# TYPE cardan_agent_bus_malformed_total counter',
      '# TYPE cardan_agent_bus_dropped_total counter',
      '# TYPE cardan_agent_bus_errors_total counter',
      '# TYPE cardan_agent_bus_state gauge',
    ]);
    expect(lines).toContain('cardan_agent_bus_frames_total{bus="socketcan:can0"} 7');
    expect(lines).toContain('cardan_agent_bus_errors_total{bus="candump:a\\"b\\\\c"} 0');
    expect(lines.filter((line) => line.endsWith('} 1') && line.includes('state='))).toEqual([
      'cardan_agent_bus_state{bus="socketcan:can0",state="bus-off"} 1',
      'cardan_agent_bus_state{bus="candump:a\\"b\\\\c",state="open"} 1',
    ]);
    expect(busMetrics({})).toBe('');
  });

  it('are words at the end of a run', () => {
    expect(busSummary(buses)).toBe(
      'socketcan:can0: 7 frames, 2 lost, 1 malformed, 3 error frames; ' +
        'candump:a"b\\c: 0 frames, 0 lost, 0 malformed, 0 error frames',
    );
  });
});
