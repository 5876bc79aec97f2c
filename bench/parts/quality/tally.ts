import { CASES, GROWTH_S, type Case, type CarOutcome } from './trial.ts';

export interface FaultTally {
  of: Case;
  cars: number;
  /** Alarmed before half of the growth; after it; never; or with an alarm on before the fault began. */
  early: number;
  late: number;
  missed: number;
  alarmedBefore: number;
  /** Of the alarmed cars (early or late): the broken part is blamed. */
  right: number;
  /** Seconds from onset to alarm that 10, 50, 90 and 95 % of all cars stay below; Infinity where so many have none. */
  delayS: { p10: number; p50: number; p90: number; p95: number };
  /** Signal: how often it is blamed. */
  blamed: Map<string, number>;
}

export interface Tally {
  faults: FaultTally[];
  vehicleHours: number;
  falseAlarms: number;
  /** Per 100 vehicle-hours: observed, and the bound that the true rate is under with 95 % confidence. */
  falseAlarmRate: number;
  falseAlarmRateMost: number;
}

export function tally(cars: readonly CarOutcome[]): Tally {
  const vehicleHours = cars.reduce((sum, { healthyS }) => sum + healthyS / 3600, 0);
  const falseAlarms = cars.reduce((sum, car) => sum + car.falseAlarms.length, 0);
  return {
    faults: CASES.map((of) => tallyFault(of, cars)),
    vehicleHours,
    falseAlarms,
    falseAlarmRate: (100 * falseAlarms) / vehicleHours,
    falseAlarmRateMost: (100 * poissonUpper(falseAlarms)) / vehicleHours,
  };
}

function tallyFault(of: Case, cars: readonly CarOutcome[]): FaultTally {
  const outcomes = cars.map(({ faults }) => faults.find((outcome) => outcome.of === of)!);
  const sound = outcomes.filter(({ alarmedBefore }) => !alarmedBefore);
  const alarmed = sound.filter(({ delayS }) => delayS !== undefined);
  const early = alarmed.filter(({ delayS }) => delayS! <= GROWTH_S / 2).length;
  const delays = outcomes
    .map(({ alarmedBefore, delayS }) => (alarmedBefore ? Infinity : (delayS ?? Infinity)))
    .sort((a, b) => a - b);
  const quantile = (part: number) => delays[Math.ceil(part * delays.length) - 1]!;
  const blamed = new Map<string, number>();
  for (const { blamed: signal } of alarmed) blamed.set(signal!, (blamed.get(signal!) ?? 0) + 1);
  return {
    of,
    cars: outcomes.length,
    early,
    late: alarmed.length - early,
    missed: sound.length - alarmed.length,
    alarmedBefore: outcomes.length - sound.length,
    right: alarmed.filter(({ right }) => right).length,
    delayS: { p10: quantile(0.1), p50: quantile(0.5), p90: quantile(0.9), p95: quantile(0.95) },
    blamed,
  };
}

/**
 * The mean of a Poisson distribution that gives `count` events or fewer in 5 % of all cases: the upper end of the
 * exact one-sided interval (Garwood, "Fiducial limits for the Poisson distribution", Biometrika 1936).
 */
export function poissonUpper(count: number): number {
  let [low, high] = [count, count + 10 * Math.sqrt(count + 1)];
  while (high - low > 1e-9 * high) {
    const mean = (low + high) / 2;
    let term = Math.exp(-mean);
    let sum = term;
    for (let k = 1; k <= count; k++) sum += term *= mean / k;
    if (sum > 0.05) low = mean;
    else high = mean;
  }
  return high;
}
