import { CardanError } from '@cardan/shared';

export const FAULT_KINDS = [
  'coolant-leak',
  'thermostat-stuck-open',
  'bearing-wear',
  'battery-cell',
  'slow-puncture',
  'clogged-air-filter',
  'stuck-sensor',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** Wheels in the order of all arrays here: front left, front right, rear left, rear right. */
export const WHEELS = ['FrontLeft', 'FrontRight', 'RearLeft', 'RearRight'] as const;
export type Wheel = 0 | 1 | 2 | 3;

/** Something that breaks. It grows in a line from nothing at `onset` to `severity`, and stays there. */
export interface Fault {
  kind: FaultKind;
  /** Milliseconds since 1970 in UTC, in the car's own time. */
  onset: number;
  /** More than 0, at most 1: the worst that still drives. */
  severity: number;
  /** Milliseconds from onset to full severity; 0 breaks at once. A stuck sensor sticks at the onset. */
  growthMs: number;
  /**
   * slow-puncture: which tyre, default front left. bearing-wear: a wheel's bearing; without it the
   * engine's main bearing.
   */
  wheel?: Wheel;
  /** stuck-sensor: name of the signal in the DBC, default `MassAirFlow`. */
  signal?: string;
}

/** A fault that has begun. */
export interface ActiveFault extends Fault {
  /** How much of it there is by now, 0..1. */
  magnitude: number;
}

/** What a stuck sensor shows where no other is named: air flow moves with every touch of the pedal. */
export const STUCK_SIGNAL_DEFAULT = 'MassAirFlow';

/**
 * What moderate means, for all kinds: half of the worst that still drives. At this severity
 *
 * - coolant-leak: half of the coolant is gone; the radiator gets rid of an eighth of its heat, the fan runs
 * - thermostat-stuck-open: it stands open by 30 % of its way
 * - bearing-wear: an engine shakes about twice as much as a sound one, a wheel's hub more than that
 * - battery-cell: one of six cells has lost half of its voltage, 1.15 V
 * - slow-puncture: the tyre has lost 17 % of its air, a quarter of its gauge pressure; laws on tyre pressure monitors
 *   (UN R141) ask for a warning at a fifth
 * - clogged-air-filter: the engine gets 39 % less air at full load
 * - stuck-sensor: has no degrees; a sensor that shows one value shows it from the onset on
 */
export const MODERATE_SEVERITY = 0.5;

/** Magnitude 0..severity of a fault at a time. */
export function magnitudeAt(fault: Fault, time: number): number {
  if (time < fault.onset) return 0;
  if (fault.kind === 'stuck-sensor' || fault.growthMs <= 0) return fault.severity;
  return fault.severity * Math.min(1, (time - fault.onset) / fault.growthMs);
}

/** Whether two faults are of the same part, so that a car can only have one of them. */
export function samePart(one: Fault, other: Fault): boolean {
  if (one.kind !== other.kind) return false;
  if (one.kind === 'slow-puncture') return (one.wheel ?? 0) === (other.wheel ?? 0);
  if (one.kind === 'bearing-wear') return one.wheel === other.wheel;
  if (one.kind === 'stuck-sensor') return stuckSignal(one) === stuckSignal(other);
  return true;
}

/** The signal that a stuck sensor holds. */
export function stuckSignal(fault: Fault): string {
  return fault.signal ?? STUCK_SIGNAL_DEFAULT;
}

/** Checks a fault of unknown origin (a command line, a file). Throws USAGE, naming what is wrong. */
export function checkFault(fault: Fault, signals: readonly string[]): void {
  const bad = (why: string) => new CardanError('USAGE', `The fault cannot be injected: ${why}.`);
  if (!FAULT_KINDS.includes(fault.kind))
    throw bad(`there is no kind "${String(fault.kind)}"; choose one of ${FAULT_KINDS.join(', ')}`);
  if (!Number.isFinite(fault.onset)) throw bad('"onset" is not a time in milliseconds');
  if (!(fault.severity > 0 && fault.severity <= 1))
    throw bad(`"severity" is ${fault.severity}; it must be more than 0 and at most 1`);
  if (!(fault.growthMs >= 0 && fault.growthMs < Infinity))
    throw bad('"growthMs" is not a number of milliseconds from 0 on');
  if (fault.wheel !== undefined && ![0, 1, 2, 3].includes(fault.wheel))
    throw bad(`there is no wheel ${String(fault.wheel)}; choose 0 to 3`);
  if (fault.kind === 'stuck-sensor' && !signals.includes(stuckSignal(fault)))
    throw bad(`the car has no signal "${stuckSignal(fault)}"; it has ${signals.join(', ')}`);
}
