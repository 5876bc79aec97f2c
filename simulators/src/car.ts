import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compileEncoder, parseDbc, type CanFrame, type MessageEncoder } from '@cardan/agent';
import { CardanError } from '@cardan/shared';
import { type DriveCycleState, startCycle } from './drive-cycle.ts';
import {
  type ActiveFault,
  checkFault,
  type Fault,
  type FaultKind,
  magnitudeAt,
  samePart,
  stuckSignal,
  WHEELS,
} from './faults.ts';
import { Random, type RandomState } from './random.ts';
import {
  type CarTraits,
  CHARGE_SETTLED,
  drawTraits,
  drawVehicle,
  noFaults,
  setMagnitudes,
  STEP_S,
  stepVehicle,
  type VehicleState,
} from './vehicle-model.ts';

/** The car's CAN database, and which VSS path each of its signals is. */
export const CAR_DBC_PATH = fileURLToPath(new URL('../vehicle/car.dbc', import.meta.url));
export const CAR_VSS_PATH = fileURLToPath(new URL('../vehicle/car.vss.yaml', import.meta.url));

/** Everything that a car is, as plain JSON: a car restored from it goes on bit by bit. */
export interface CarState {
  version: 1;
  id: string;
  /** Up to when frames have been emitted, milliseconds since 1970 in UTC. */
  time: number;
  /** Up to when the physics have been computed; up to a step ahead. */
  stepTime: number;
  random: RandomState;
  traits: CarTraits;
  vehicle: VehicleState;
  /** The fast values a step ago, from which frames are interpolated. */
  before: FastValues;
  cycle: DriveCycleState;
  /** When each message is due, in the order of the DBC. */
  due: number[];
  faults: Fault[];
  /** What each stuck sensor shows. */
  held: Record<string, number>;
}

type FastValues = Pick<VehicleState, 'rpm' | 'speed' | 'throttlePercent'>;

/**
 * A simulated car on its CAN bus. The same id, seed, start and faults give the same frames, however the
 * time is cut into calls of `advance`.
 */
export class Car {
  readonly #state: CarState;
  readonly #random: Random;
  readonly #magnitudes = noFaults();
  readonly #bus: readonly BusMessage[] = DATABASE.messages.map((message) => new BusMessage(message.name));

  /**
   * A car at `startTime` (milliseconds since 1970 in UTC), most likely warm and in mid-trip. One from a state of
   * unknown origin comes from `restore`, which checks it.
   */
  constructor(options: { id: string; seed: number; startTime: number } | CarState) {
    if ('version' in options) {
      this.#state = structuredClone(options);
      this.#random = Random.restore(options.random);
    } else {
      this.#random = new Random(options.seed, options.id);
      this.#state = drawCar(options.id, options.startTime, this.#random);
    }
  }

  /** Goes on from a saved state. Throws USAGE when another version has saved it. */
  static restore(state: CarState): Car {
    if ((state as { version: unknown }).version !== 1 || state.due.length !== DATABASE.messages.length)
      throw new CardanError(
        'USAGE',
        `The state of car ${state.id} was saved by another version. Start the fleet with a new data folder.`,
      );
    return new Car(state);
  }

  get id(): string {
    return this.#state.id;
  }

  /** A copy of the car's state, ready for JSON. */
  get state(): CarState {
    return structuredClone({ ...this.#state, random: this.#random.state });
  }

  /** Breaks something; a fault of the same part is replaced. Throws USAGE, naming what is wrong with it. */
  inject(fault: Fault): void {
    checkFault(fault, SIGNALS);
    this.#remove((other) => samePart(other, fault));
    this.#state.faults.push({ ...fault });
  }

  /** Repairs all faults of a kind, or all there are. Heat and cold recover in their own time. */
  repair(kind?: FaultKind): void {
    const { faults, vehicle } = this.#state;
    if (faults.some((fault) => fault.kind === 'battery-cell' && (kind === undefined || kind === fault.kind)))
      vehicle.charge = CHARGE_SETTLED;
    this.#remove((fault) => kind === undefined || fault.kind === kind);
  }

  #remove(which: (fault: Fault) => boolean): void {
    const { faults, held } = this.#state;
    for (const fault of faults)
      if (fault.kind === 'stuck-sensor' && which(fault)) Reflect.deleteProperty(held, stuckSignal(fault));
    this.#state.faults = faults.filter((fault) => !which(fault));
  }

  /** The faults that have begun: the ground truth, to score detectors by. */
  truth(): ActiveFault[] {
    const { faults, time } = this.#state;
    return faults
      .filter((fault) => fault.onset <= time)
      .map((fault) => ({ ...fault, magnitude: magnitudeAt(fault, time) }));
  }

  /**
   * Drives on and emits the frames up to `untilMs` in order of time. Frame and data are reused for the next
   * frame of the same message: who keeps them beyond the call copies them.
   */
  advance(untilMs: number, emit: (frame: CanFrame) => void): void {
    const { due } = this.#state;
    for (;;) {
      let next = 0;
      for (let i = 1; i < due.length; i++) if (due[i]! < due[next]!) next = i;
      const time = due[next]!;
      if (time > untilMs) break;
      while (this.#state.stepTime < time) this.#step();
      const message = this.#bus[next]!;
      due[next] = time + message.periodMs;
      emit(this.#frame(message, time));
    }
    this.#state.time = Math.max(this.#state.time, untilMs);
  }

  #step(): void {
    const state = this.#state;
    const { vehicle, before } = state;
    state.stepTime += STEP_MS;
    before.rpm = vehicle.rpm;
    before.speed = vehicle.speed;
    before.throttlePercent = vehicle.throttlePercent;
    setMagnitudes(this.#magnitudes, state.faults, state.stepTime);
    stepVehicle(vehicle, state.cycle, state.traits, this.#magnitudes, this.#random);
  }

  #frame(message: BusMessage, time: number): CanFrame {
    const state = this.#state;
    const { values, sensors } = message;
    const part = 1 - (state.stepTime - time) / STEP_MS;
    for (let i = 0; i < sensors.length; i++)
      values[i] = sensors[i]!.measure(state.before, state.vehicle, part, this.#random);
    if (state.faults.length > 0) this.#stick(message, time);
    return message.frame(time);
  }

  #stick({ sensors, values }: BusMessage, time: number): void {
    const { faults, held } = this.#state;
    for (const fault of faults) {
      if (fault.kind !== 'stuck-sensor' || time < fault.onset) continue;
      const name = stuckSignal(fault);
      const at = sensors.findIndex((sensor) => sensor.name === name);
      if (at >= 0) values[at] = held[name] ??= values[at]!;
    }
  }
}

const STEP_MS = STEP_S * 1000;
/** One car in so many begins cold. */
const COLD_CARS = 0.08;

function drawCar(id: string, startTime: number, random: Random): CarState {
  const traits = drawTraits(random);
  const cold = random.chance(COLD_CARS);
  const vehicle = drawVehicle(traits, random, cold);
  const cycle = startCycle(random, cold);
  // A warm car has driven a while, unseen: that makes its first minute look like any other.
  const steps = cold ? 1 : Math.round(random.between(300, 700) / STEP_S);
  const magnitudes = noFaults();
  for (let step = 0; step < steps; step++) stepVehicle(vehicle, cycle, traits, magnitudes, random);
  const { rpm, speed, throttlePercent } = vehicle;
  return {
    version: 1,
    id,
    time: startTime,
    stepTime: startTime,
    random: random.state,
    traits,
    vehicle,
    before: { rpm, speed, throttlePercent },
    cycle,
    // Each control unit has its own clock. Eighths of a millisecond are exact in a double of this size.
    due: DATABASE.messages.map(
      ({ cycleTimeMs }) => startTime + Math.ceil(random.uniform() * cycleTimeMs! * 8) / 8,
    ),
    faults: [],
    held: {},
  };
}

/** What a sensor senses, and how well. */
interface Sensing {
  of: (vehicle: VehicleState) => number;
  /** For values that move within a step: the same of the step before. */
  fast?: (before: FastValues) => number;
  /** Standard deviation of the noise, in the signal's unit. */
  noise?: number;
  /** The same as part of the value. */
  relativeNoise?: number;
}

const FUEL_G_PER_L = 745;

const SENSING: Readonly<Record<string, Sensing>> = {
  EngineSpeed: { of: (v) => v.rpm, fast: (b) => b.rpm, relativeNoise: 0.004 },
  ThrottlePosition: { of: (v) => v.throttlePercent, fast: (b) => b.throttlePercent, noise: 0.25 },
  VehicleSpeed: { of: (v) => v.speed * 3.6, fast: (b) => b.speed * 3.6, relativeNoise: 0.002 },
  CurrentGear: { of: (v) => v.gear },
  EngineLoad: { of: (v) => v.load * 100, relativeNoise: 0.01 },
  MassAirFlow: { of: (v) => v.airGps, relativeNoise: 0.015 },
  ManifoldPressure: { of: (v) => v.manifoldKpa, noise: 0.4 },
  FuelRate: { of: (v) => (v.fuelGps * 3600) / FUEL_G_PER_L, relativeNoise: 0.01 },
  ...perWheel('HubVibration', (v, wheel) => v.hubVibration[wheel]!, { relativeNoise: 0.07 }),
  EngineVibration: { of: (v) => v.engineVibration, relativeNoise: 0.06 },
  CoolantTemperature: { of: (v) => v.coolantC, noise: 0.25 },
  OilTemperature: { of: (v) => v.oilC, noise: 0.25 },
  IntakeTemperature: { of: (v) => v.intakeC, noise: 0.25 },
  AmbientTemperature: { of: (v) => v.ambientC, noise: 0.3 },
  ...perWheel('TyrePressure', (v, wheel) => v.tyreKpa[wheel]!, { noise: 0.8 }),
  BatteryVoltage: { of: (v) => v.batteryV, noise: 0.015 },
  BatteryCurrent: { of: (v) => v.batteryA, noise: 0.2 },
  BatteryStateOfCharge: { of: (v) => v.charge * 100, noise: 0.4 },
};

function perWheel(
  name: string,
  of: (vehicle: VehicleState, wheel: number) => number,
  noise: Pick<Sensing, 'noise' | 'relativeNoise'>,
): Record<string, Sensing> {
  return Object.fromEntries(
    WHEELS.map((wheel, index) => [`${name}${wheel}`, { of: (v: VehicleState) => of(v, index), ...noise }]),
  );
}

class Sensor {
  readonly name: string;
  private readonly of: Sensing['of'];
  private readonly fast: Sensing['fast'];
  private readonly noise: number;
  private readonly relativeNoise: number;
  private readonly min: number;
  private readonly max: number;

  constructor(signal: { name: string; minimum: number | null; maximum: number | null }) {
    const sensing = SENSING[signal.name];
    if (sensing === undefined)
      throw new CardanError('DBC_INVALID', `No part of the car measures ${signal.name}.`);
    this.name = signal.name;
    this.of = sensing.of;
    this.fast = sensing.fast;
    this.noise = sensing.noise ?? 0;
    this.relativeNoise = sensing.relativeNoise ?? 0;
    this.min = signal.minimum ?? -Infinity;
    this.max = signal.maximum ?? Infinity;
  }

  /** The signal at a part 0..1 of the way from the step before to the present one. */
  measure(before: FastValues, now: VehicleState, part: number, random: Random): number {
    let value = this.of(now);
    if (this.fast !== undefined) value += (this.fast(before) - value) * (1 - part);
    const deviation = this.noise + this.relativeNoise * value;
    if (deviation > 0) value += deviation * random.normal();
    // A sensor saturates at the ends of its range.
    return value < this.min ? this.min : value > this.max ? this.max : value;
  }
}

const DATABASE = parseDbc(readFileSync(CAR_DBC_PATH), CAR_DBC_PATH);
const ENCODER = compileEncoder(DATABASE);
const SENSORS = new Map(
  DATABASE.messages.map(({ name, signals }) => [name, signals.map((signal) => new Sensor(signal))]),
);
/** Names of all signals of the car. */
const SIGNALS = [...SENSORS.values()].flatMap((sensors) => sensors.map(({ name }) => name));

/** One message with its buffers. */
class BusMessage {
  readonly periodMs: number;
  readonly sensors: readonly Sensor[];
  /** Scaled, in the order of the message's signals. */
  readonly values: Float64Array;
  readonly #encoder: MessageEncoder;
  readonly #frame: CanFrame;

  constructor(name: string) {
    this.#encoder = ENCODER.message(name);
    const { id, extended, fd, length, cycleTimeMs, signals } = this.#encoder.message;
    if (cycleTimeMs === null) throw new CardanError('DBC_INVALID', `${name} has no GenMsgCycleTime.`);
    this.periodMs = cycleTimeMs;
    this.sensors = SENSORS.get(name) as readonly Sensor[];
    this.values = new Float64Array(signals.length);
    this.#frame = { time: 0, id, extended, fd, data: new Uint8Array(length) };
  }

  /** The frame with `values`. */
  frame(time: number): CanFrame {
    this.#frame.time = time;
    this.#encoder.encode(this.values, this.#frame.data);
    return this.#frame;
  }
}
