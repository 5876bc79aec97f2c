import type { ModelRef, VehicleModelStopped } from '@cardan/shared';

/**
 * A model that has not proved itself yet. It is on the disk before the model gets its first row, and goes when the
 * model is good, so an agent that begins can see what scored when the one before ended.
 */
export interface Trial {
  ref: ModelRef;
  address: string;
  role: VehicleModelStopped['role'];
  /** It scores, or did when the process ended without saying so. */
  running: boolean;
  /** It has scored for a minute since it began. */
  calm: boolean;
  /** Start of the computer in which it began to score. */
  bootId: string;
  /** Ends of the process alone (a crash, SIGKILL, no memory left) while it scored, since the last good end. */
  deaths: number;
  /** Ends of the whole computer within its first minute. */
  cuts: number;
}

/** Once may be anything, twice a coincidence. */
const DEATHS_MAX = 3;
/** A flat battery cuts the power again and again, and so may who only moves a car; a model hardly ever does. */
const CUTS_MAX = 10;
/** The active one, the candidate, and each one that died while it took over. */
const TRIALS_MAX = 4;

/** A model begins to score. What it had done before is kept, and its place, too: the newest stands last. */
export function begun(
  trials: readonly Trial[],
  { ref, address, role, bootId }: Pick<Trial, 'ref' | 'address' | 'role' | 'bootId'>,
): Trial[] {
  const fresh: Trial = {
    ref,
    address,
    role,
    bootId,
    running: true,
    calm: false,
    deaths: 0,
    cuts: 0,
  };
  const there = trials.some((trial) => trial.address === address);
  return [
    ...trials.map((trial) => {
      if (trial.address === address) return { ...fresh, deaths: trial.deaths, cuts: trial.cuts };
      // It takes that one's place.
      return trial.role === role ? { ...trial, running: false } : trial;
    }),
    ...(there ? [] : [fresh]),
  ].slice(-TRIALS_MAX);
}

/**
 * What an agent that begins makes of the trials which still run: the one before did not end cleanly. Of several models
 * only the newest is blamed, as the others ran without it. `looped`: it ended so too often.
 */
export function judged(
  trials: readonly Trial[],
  bootId: string,
): { trials: Trial[]; looped: Trial | undefined } {
  const suspect = trials.findLast(({ running }) => running);
  const after = trials.map((trial) => {
    const ended = { ...trial, running: false };
    if (trial !== suspect) return ended;
    if (trial.bootId === bootId) return { ...ended, deaths: trial.deaths + 1 };
    return trial.calm ? ended : { ...ended, cuts: trial.cuts + 1 };
  });
  const looped = after.find(({ deaths, cuts }) => deaths >= DEATHS_MAX || cuts >= CUTS_MAX);
  return { trials: after, looped };
}

/** The agent ends as it should: no end before this one tells of a crash loop any more. */
export function ended(trials: readonly Trial[]): Trial[] {
  return trials.map((trial) => (trial.running ? { ...trial, running: false, deaths: 0, cuts: 0 } : trial));
}

/** Why such a model is given up. */
export function crashLoop({ ref, deaths }: Trial): { code: 'MODEL_CRASH_LOOP'; message: string } {
  const what =
    deaths >= DEATHS_MAX
      ? `the agent died ${deaths} times while it was on trial`
      : `the computer went down ${CUTS_MAX} times in its first minute`;
  return { code: 'MODEL_CRASH_LOOP', message: `Model ${ref.name} ${ref.version} is given up: ${what}.` };
}
