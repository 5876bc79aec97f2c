import { describe, expect, it } from 'vitest';
import { SlcanClock } from '../../src/can/slcan-clock.ts';

const BEGIN = 1_700_000_000_000;

/** Small numbers that repeat, for delays. */
function* jitter(): Generator<number> {
  for (let seed = 1; ; seed = (seed * 48_271) % 0x7fff_ffff) yield seed / 0x7fff_ffff;
}

describe('time stamps of an adapter', () => {
  it('take the jitter of USB away, over many turns of their minute', () => {
    const clock = new SlcanClock();
    const delays = jitter();
    // Frames every 10 ms for ten minutes; each arrives 1 to 16 ms later.
    const errors: number[] = [];
    for (let t = 0; t < 600_000; t += 10) {
      const delay = 1 + 15 * delays.next().value!;
      errors.push(clock.time((12_345 + t) % 60_000, BEGIN + t + delay) - (BEGIN + t));
    }
    const late = errors.slice(100);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...late)).toBeLessThan(3);
  });

  it('follow an adapter whose clock is slow or fast, for hours', () => {
    for (const drift of [0.9995, 1.0005]) {
      const clock = new SlcanClock();
      let worst = 0;
      for (let t = 0; t < 4 * 3_600_000; t += 100) {
        const stamp = Math.floor(t * drift) % 60_000;
        const off = clock.time(stamp, BEGIN + t) - (BEGIN + t);
        worst = Math.max(worst, Math.abs(off));
      }
      expect(worst).toBeLessThan(5);
    }
  });

  it('are never later than the arrival', () => {
    const clock = new SlcanClock();
    expect(clock.time(100, BEGIN + 50)).toBe(BEGIN + 50);
    // The first frame was slow: this one shows it.
    expect(clock.time(200, BEGIN + 110)).toBe(BEGIN + 110);
    expect(clock.time(300, BEGIN + 230)).toBeCloseTo(BEGIN + 210, 0);
  });

  it('are set anew when they make no sense: the adapter was reset, or this computer was asleep', () => {
    const clock = new SlcanClock();
    clock.time(10_000, BEGIN);
    expect(clock.time(0, BEGIN + 1000)).toBe(BEGIN + 1000);
    expect(clock.time(100, BEGIN + 1105)).toBeCloseTo(BEGIN + 1100, 0);
    expect(clock.time(200, BEGIN + 31_200)).toBe(BEGIN + 31_200);
  });
});
