import { Alarm, Scorer, type Model } from '@cardan/shared';
import { Car } from '../../../simulators/src/car.ts';
import { signalsOf } from '../../../simulators/src/fault-signals.ts';
import { MODERATE_SEVERITY, type Fault, type Wheel } from '../../../simulators/src/faults.ts';
import { Random } from '../../../simulators/src/random.ts';
import { CAR_COLUMNS, driveCar, recordCar, type CarRows } from './car-rows.ts';
import { START } from './fleet-model.ts';

/** The faults that every car gets, one after the other, each from the same state of the car. */
export const CASES = [
  'coolant-leak',
  'thermostat-stuck-open',
  'bearing-wear of the engine',
  'bearing-wear of a wheel',
  'battery-cell',
  'slow-puncture',
  'clogged-air-filter',
  'stuck-sensor',
] as const;
export type Case = (typeof CASES)[number];

/**
 * An hour from sound to moderate: longer than the longest time constant of the car (seven minutes, a tyre's) and
 * than a trip, so that a fault meets all kinds of road as it grows. Real ones take days.
 */
export const GROWTH_S = 3600;
/** Cars drive so long before the fault; drawn, so that it does not always begin in the same minute of a trip. */
const LEAD_S: [number, number] = [300, 900];
/** Before the onset the car is copied; until then its copies have seen a frame of every message. */
const COPIED_BEFORE_MS = 10_000;

export interface FaultOutcome {
  of: Case;
  /** The signal that sticks, of a stuck sensor. */
  signal?: string;
  /** Whether an alarm was on already at the onset: then nothing is detected. */
  alarmedBefore: boolean;
  /** From the onset to the alarm; undefined when there was none before full severity. */
  delayS?: number;
  /** The signal that the score at the alarm is mostly of, and whether it is one of the broken part. */
  blamed?: string;
  right?: boolean;
}

export interface CarOutcome {
  seed: number;
  /** Of the car without a fault: seconds driven, and its alarms with what they blame. */
  healthyS: number;
  falseAlarms: { atS: number; blamed: string }[];
  faults: FaultOutcome[];
}

/** One car: healthy for `healthyS`, and with each fault. The same model and seed give the same outcome. */
export function tryCar(model: Model, seed: number, healthyS: number): CarOutcome {
  const random = new Random(seed, 'quality');
  const car = new Car({ id: `trial-${seed}`, seed, startTime: START });
  const copied = START + 1000 * Math.round(random.between(...LEAD_S));
  const lead = recordCar(car, START, copied);
  const onset = copied + COPIED_BEFORE_MS;
  const state = car.state;

  const falseAlarms: CarOutcome['falseAlarms'] = [];
  const watch = new Watch(model);
  const healthy = (time: number, values: Float32Array) => {
    if (watch.push(time, values)) falseAlarms.push({ atS: (time - START) / 1000, blamed: watch.blamed() });
    return true;
  };
  replay(lead, healthy);
  driveCar(Car.restore(state), copied, START + 1000 * healthyS, healthy);

  const faults = CASES.map((of, at) => {
    const fault = faultOf(of, seed, onset);
    const faulty = Car.restore(state);
    faulty.inject(fault);
    const watch = new Watch(model);
    const outcome: FaultOutcome = { of: CASES[at]!, alarmedBefore: false };
    if (fault.signal !== undefined) outcome.signal = fault.signal;
    const push = (time: number, values: Float32Array) => {
      const raised = watch.push(time, values);
      if (time <= onset) {
        outcome.alarmedBefore = watch.active;
        return true;
      }
      if (!raised) return true;
      outcome.delayS = (time - onset) / 1000;
      outcome.blamed = watch.blamed();
      outcome.right = signalsOf(fault).includes(outcome.blamed);
      return false;
    };
    replay(lead, push);
    driveCar(faulty, copied, onset + GROWTH_S * 1000, push);
    return outcome;
  });
  return { seed, healthyS, falseAlarms, faults };
}

export function faultOf(of: Case, seed: number, onset: number): Fault {
  const fault = { onset, severity: MODERATE_SEVERITY, growthMs: GROWTH_S * 1000 };
  const wheel = (seed % 4) as Wheel;
  switch (of) {
    case 'bearing-wear of the engine':
      return { ...fault, kind: 'bearing-wear' };
    case 'bearing-wear of a wheel':
      return { ...fault, kind: 'bearing-wear', wheel };
    case 'slow-puncture':
      return { ...fault, kind: of, wheel };
    case 'stuck-sensor':
      return { ...fault, kind: of, signal: CAR_COLUMNS.names[seed % CAR_COLUMNS.names.length]! };
    default:
      return { ...fault, kind: of };
  }
}

/** Model and alarm, as a car has them. */
class Watch {
  private readonly scorer: Scorer;
  private readonly alarm: Alarm;

  constructor(model: Model) {
    this.scorer = new Scorer(model);
    this.alarm = new Alarm(model.manifest.alarm);
  }

  get active(): boolean {
    return this.alarm.active;
  }

  /** Whether the row has raised an alarm. */
  push(time: number, values: Float32Array): boolean {
    return this.alarm.push(this.scorer.push(time, values)) === 'raised';
  }

  /** The signal that the last score is mostly of. */
  blamed(): string {
    const parts = this.scorer.contributions();
    return CAR_COLUMNS.names[parts.indexOf(Math.max(...parts))]!;
  }
}

function replay({ times, values }: CarRows, onRow: (time: number, values: Float32Array) => boolean): void {
  const width = CAR_COLUMNS.names.length;
  times.forEach((time, row) => onRow(time, values.subarray(row * width, (row + 1) * width)));
}
