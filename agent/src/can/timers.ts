/** Steady time and alarms, passed in so that protocols with time-outs run on a fake clock in tests. */
export interface Timers {
  /** Milliseconds, with fractions, from any start; never jumps. */
  now(): number;
  /** Calls `run` once after `ms`. The returned function forgets it. */
  after(ms: number, run: () => void): () => void;
}

/** The computer's own. An alarm does not keep a process alive. */
export const systemTimers: Timers = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`; at once for 0. */
export function wait(timers: Timers, ms: number): Promise<void> {
  if (ms <= 0) return Promise.resolve();
  return new Promise((resolve) => timers.after(ms, resolve));
}

/** Resolves with `work`, or rejects with what `late` makes when it takes longer than `ms`. */
export function within<T>(timers: Timers, ms: number, work: Promise<T>, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const forget = timers.after(ms, () => reject(late()));
    work.then(resolve, reject).finally(forget);
  });
}
