import { roughnessOf, stepCycle, type DriveCycleState } from './drive-cycle.ts';
import { magnitudeAt, type Fault } from './faults.ts';
import type { Random } from './random.ts';

/**
 * The physics of a compact petrol car: what the driver wants → forces → engine → heat, battery, tyres,
 * vibration. Lumped first-order models with textbook magnitudes (Bosch Automotive Handbook; Guzzella and
 * Onder, "Introduction to Modeling and Control of Internal Combustion Engine Systems"): small enough for
 * thousands of cars, and right in what a detector learns, which is how the signals hang together.
 *
 * Slow states come back to a mean, so that an hour looks like any other. Only sums, products, quotients and
 * square roots, which IEEE 754 fixes: every machine computes the same bits.
 */

/** Seconds per step. Faster frames are interpolated. */
export const STEP_S = 0.1;

/** What differs from car to car. */
export interface CarTraits {
  massKg: number;
  /** Coolant temperature at which the thermostat begins to open, °C. */
  thermostatC: number;
  /** Gauge pressure of each tyre at `fillC`, kPa. */
  tyreFillKpa: number[];
  /** Air temperature when the tyres were filled, °C; also the mean around which the weather moves. */
  fillC: number;
  /** Air pressure, kPa. */
  airKpa: number;
  batteryOhm: number;
  /** What lights, pumps and control units take, A. */
  consumersA: number;
  /** Vibration of engine and of each hub relative to the mean car. */
  engineRoughness: number;
  hubRoughness: number[];
}

/** Everything that changes. SI units, except where the name says °C (C), kPa, A or V. */
export interface VehicleState {
  engineOn: boolean;
  /** Seconds for which the starter still turns. */
  starterLeft: number;
  speed: number;
  acceleration: number;
  gear: number;
  /** Seconds until the gearbox may shift again. */
  shiftLeft: number;
  rpm: number;
  /** Slope of the road, rise over run. */
  slope: number;
  roughness: number;
  /** Part of the torque that the engine can give at this speed, 0..1. */
  load: number;
  throttlePercent: number;
  manifoldKpa: number;
  airGps: number;
  fuelGps: number;
  thermostatOpen: number;
  fanOn: boolean;
  coolantC: number;
  oilC: number;
  intakeC: number;
  ambientC: number;
  /** A; heated windows, blower: on and off in minutes. */
  comfortA: number;
  batteryV: number;
  batteryA: number;
  /** 0..1. */
  charge: number;
  tyreC: number[];
  tyreKpa: number[];
  engineVibration: number;
  hubVibration: number[];
}

const GRAVITY = 9.81;
const WHEEL_RADIUS_M = 0.31;
const ROLLING = 0.011;
/** ½ · air density · drag coefficient · frontal area. */
const DRAG = 0.5 * 1.2 * 0.65;
const DRIVELINE_EFFICIENCY = 0.92;
/** Engine turns per wheel turn, first gear at [1]. */
const RATIOS = [0, 14, 8, 5.6, 4.2, 3.3, 2.65];
const RPM_PER_MPS = 60 / (2 * Math.PI * WHEEL_RADIUS_M);

const DISPLACEMENT_M3 = 1.6e-3;
const IDLE_RPM = 780;
const GAS_CONSTANT_AIR = 287;
const STOICHIOMETRIC = 14.7;
const FUEL_J_PER_G = 43_000;
/** Air flow that a fully open throttle lets through, g/s. */
const THROTTLE_FLOW_GPS = 150;

const COOLANT_HEAT_J_PER_K = 26_000;
/** Part of the fuel's heat that goes into the coolant. */
const COOLANT_PART = 0.29;
const OIL_HEAT_J_PER_K = 8000;

/** Where the charge of a sound battery settles in use. */
export const CHARGE_SETTLED = 0.908;
const BATTERY_COULOMB = 60 * 3600;
/** What a battery takes in falls in a line with its charge: resistance of the charging reaction. */
const CHARGING_OHM = 0.03;
const ALTERNATOR_MAX_A = 80;
const STARTER_A = 120;

export function drawTraits(random: Random): CarTraits {
  const fill = 230 + 5 * random.normal();
  return {
    massKg: random.between(1250, 1500),
    thermostatC: random.between(86.5, 89.5),
    tyreFillKpa: [0, 0, 8, 8].map((more) => fill + more + 2 * random.normal()),
    fillC: random.between(10, 25),
    airKpa: random.between(98, 102),
    batteryOhm: random.between(0.005, 0.008),
    consumersA: random.between(18, 26),
    engineRoughness: random.between(0.88, 1.12),
    hubRoughness: [0, 0, 0, 0].map(() => random.between(0.92, 1.08)),
  };
}

/** A warm car in mid-trip near its steady state, or a cold one about to start. */
export function drawVehicle(traits: CarTraits, random: Random, cold: boolean): VehicleState {
  const ambientC = traits.fillC + AMBIENT_C * random.normal();
  const coolantC = cold ? ambientC : traits.thermostatC + 3;
  const tyreC = traits.tyreFillKpa.map(() => ambientC + (cold ? 0 : 11));
  return {
    engineOn: !cold,
    starterLeft: 0,
    speed: 0,
    acceleration: 0,
    gear: cold ? 0 : 1,
    shiftLeft: 0,
    rpm: cold ? 0 : IDLE_RPM,
    slope: 0,
    roughness: 1,
    load: 0,
    throttlePercent: 15,
    manifoldKpa: traits.airKpa,
    airGps: 0,
    fuelGps: 0,
    thermostatOpen: 0,
    fanOn: false,
    coolantC,
    oilC: cold ? ambientC : coolantC + 2,
    intakeC: ambientC + (cold ? 0 : 10),
    ambientC,
    comfortA: 6,
    batteryV: 12.6,
    batteryA: -10,
    charge: CHARGE_SETTLED + 0.006 * random.normal(),
    tyreC,
    tyreKpa: traits.tyreFillKpa.slice(),
    engineVibration: 0,
    hubVibration: [0, 0, 0, 0],
  };
}

/** How much of each fault there is, 0..1. */
export interface FaultMagnitudes {
  coolantLeak: number;
  thermostatOpen: number;
  engineBearing: number;
  hubBearing: number[];
  batteryCell: number;
  puncture: number[];
  airFilter: number;
}

export function noFaults(): FaultMagnitudes {
  return {
    coolantLeak: 0,
    thermostatOpen: 0,
    engineBearing: 0,
    hubBearing: [0, 0, 0, 0],
    batteryCell: 0,
    puncture: [0, 0, 0, 0],
    airFilter: 0,
  };
}

/** The faults' magnitudes at a time, written into `into`. A stuck sensor is not physics: see `Car`. */
export function setMagnitudes(into: FaultMagnitudes, faults: readonly Fault[], time: number): void {
  into.coolantLeak = into.thermostatOpen = into.engineBearing = into.batteryCell = into.airFilter = 0;
  into.hubBearing.fill(0);
  into.puncture.fill(0);
  for (const fault of faults) {
    const magnitude = magnitudeAt(fault, time);
    if (fault.kind === 'coolant-leak') into.coolantLeak = magnitude;
    else if (fault.kind === 'thermostat-stuck-open') into.thermostatOpen = magnitude;
    else if (fault.kind === 'battery-cell') into.batteryCell = magnitude;
    // Dust lies where the air goes: half a filter takes more than half of the breath.
    else if (fault.kind === 'clogged-air-filter') into.airFilter = magnitude * (1.6 - 0.6 * magnitude);
    else if (fault.kind === 'slow-puncture') into.puncture[fault.wheel ?? 0] = magnitude;
    else if (fault.kind === 'bearing-wear' && fault.wheel === undefined) into.engineBearing = magnitude;
    else if (fault.kind === 'bearing-wear') into.hubBearing[fault.wheel as number] = magnitude;
  }
}

/** Moves a car on by `STEP_S`. */
export function stepVehicle(
  car: VehicleState,
  cycle: DriveCycleState,
  traits: CarTraits,
  faults: FaultMagnitudes,
  random: Random,
): void {
  stepCycle(cycle, car.speed, STEP_S, random);
  stepAmbience(car, cycle, traits, random);
  stepIgnition(car, cycle);
  stepEngine(car, cycle, traits, faults, stepMotion(car, cycle, traits, faults));
  stepHeat(car, traits, faults);
  stepBattery(car, traits, faults, random);
  stepTyres(car, traits, faults);
  stepVibration(car, traits, faults, random);
}

const AMBIENT_C = 0.8;

function stepAmbience(car: VehicleState, cycle: DriveCycleState, traits: CarTraits, random: Random): void {
  car.ambientC = wander(car.ambientC, traits.fillC, AMBIENT_C, 300, random);
  car.slope = wander(car.slope, 0, 0.012, 25, random);
  car.roughness = Math.max(0.3, wander(car.roughness, roughnessOf(cycle.road), 0.12, 12, random));
  // Something is switched on or off every two minutes or so.
  if (random.chance(STEP_S / 120)) car.comfortA = random.between(0, 14);
}

function stepIgnition(car: VehicleState, cycle: DriveCycleState): void {
  const wanted = cycle.road !== 'parked';
  if (wanted && !car.engineOn) car.starterLeft = 0.6;
  car.engineOn = wanted;
  car.starterLeft = Math.max(0, car.starterLeft - STEP_S);
}

/** Driver, gearbox and road → speed. Returns the torque that the engine has to give, Nm. */
function stepMotion(
  car: VehicleState,
  cycle: DriveCycleState,
  traits: CarTraits,
  faults: FaultMagnitudes,
): number {
  const target = cycle.target > 0 ? Math.max(0, cycle.target + cycle.wander) : 0;
  const moves = car.engineOn && car.starterLeft === 0;
  // Brakes are stronger than engines, and pulling away grows weaker with speed.
  const push = cycle.push / (1 + car.speed / 25);
  let wanted = clamp((target - car.speed) * 0.4, -2.2, push);
  if (!moves) wanted = Math.min(0, wanted);
  // Nobody jerks the pedal.
  car.acceleration += (wanted - car.acceleration) * (STEP_S / 0.5);

  shift(car);
  const ratio = RATIOS[car.gear]!;
  const perTorque = (ratio * DRIVELINE_EFFICIENCY) / WHEEL_RADIUS_M;
  const rolls = car.speed > 0.1 || target > 0;
  const resistance = rolls
    ? traits.massKg * GRAVITY * (ROLLING + car.slope) + DRAG * car.speed * car.speed
    : 0;
  let torque = 0;
  if (moves && ratio > 0 && rolls) {
    torque = (traits.massKg * car.acceleration + resistance) / perTorque;
    const most = 0.97 * torqueMost(car.rpm, faults.airFilter) - accessoryTorque(car);
    if (torque > most) {
      torque = most;
      car.acceleration = (torque * perTorque - resistance) / traits.massKg;
    }
  }
  car.speed += car.acceleration * STEP_S;
  if (car.speed < 0.15 && target === 0) {
    car.speed = 0;
    car.acceleration = 0;
  }
  car.speed = Math.max(0, car.speed);
  return torque;
}

/** An automatic gearbox: later when pulling hard, never twice within 1.5 s. */
function shift(car: VehicleState): void {
  car.shiftLeft = Math.max(0, car.shiftLeft - STEP_S);
  if (!car.engineOn) car.gear = 0;
  else if (car.gear === 0 || car.speed < 0.5) car.gear = 1;
  else if (car.shiftLeft === 0) {
    const rpm = gearRpm(car.speed, car.gear);
    const up = 2050 + 1500 * car.load;
    if (rpm > up && car.gear < RATIOS.length - 1) car.gear++;
    else if (rpm < 1150 + 700 * car.load && car.gear > 1) car.gear--;
    else return;
    car.shiftLeft = 1.5;
  }
}

function gearRpm(speed: number, gear: number): number {
  return speed * RPM_PER_MPS * RATIOS[gear]!;
}

/** Full-load torque, Nm. An engine that cannot breathe gives less. */
function torqueMost(rpm: number, clogged: number): number {
  const fromPeak = (rpm - 4000) / 5200;
  return 152 * (1 - fromPeak * fromPeak) * breathing(clogged);
}

/** The part of its air that an engine gets at full load through a filter clogged that much. */
function breathing(clogged: number): number {
  return 1 - 0.6 * clogged;
}

function frictionTorque(car: VehicleState): number {
  const thickOil = 1 + 0.8 * Math.max(0, (80 - car.oilC) / 80);
  return (11 + 0.004 * car.rpm) * thickOil;
}

function accessoryTorque(car: VehicleState): number {
  return 2 + 0.08 * (car.comfortA + 20 + (car.fanOn ? 20 : 0));
}

function stepEngine(
  car: VehicleState,
  cycle: DriveCycleState,
  traits: CarTraits,
  faults: FaultMagnitudes,
  torque: number,
): void {
  const coldIdle = IDLE_RPM + 4 * Math.max(0, 70 - car.coolantC);
  let rpm = 0;
  if (car.starterLeft > 0) rpm = 250;
  else if (car.engineOn) {
    // The torque converter slips when the car pulls away.
    const slip = cycle.target > 0 ? 60 * Math.max(0, car.acceleration) : 0;
    rpm = Math.max(coldIdle, gearRpm(car.speed, car.gear)) + slip;
  }
  car.rpm += (rpm - car.rpm) * (STEP_S / 0.25);
  if (!car.engineOn && car.rpm < 40) car.rpm = 0;

  const burns = car.engineOn && car.starterLeft === 0;
  const friction = frictionTorque(car);
  const needed = torque + friction + accessoryTorque(car);
  const overrun = burns && needed < 4 && car.rpm > 1200;
  const most = torqueMost(car.rpm, faults.airFilter) + friction;
  const load = burns ? clamp(needed / most, 0.06, 1) : 0;
  car.load += (load - car.load) * (STEP_S / 0.3);

  // A clogged filter takes away pressure before the throttle: for the same torque the driver opens it further,
  // and the engine makes do with less air and more fuel.
  const clogged = faults.airFilter;
  const upstream = traits.airKpa * (1 - 0.45 * clogged * (0.6 + 0.4 * Math.min(1, car.airGps / 20)));
  const wanted = traits.airKpa * (0.16 + 0.82 * car.load * breathing(clogged)) * (1 - 0.25 * clogged);
  const charge = Math.min(wanted, 0.985 * upstream);
  // Without the engine the manifold fills in a moment.
  const turning = Math.min(1, car.rpm / 500);
  car.manifoldKpa = traits.airKpa + (charge - traits.airKpa) * turning;
  const filling = 0.78 + 0.08 * Math.min(1, car.rpm / 3000);
  const perSecond = (DISPLACEMENT_M3 * car.rpm) / 120;
  const intakeK = car.intakeC + 273 + 12;
  car.airGps = (1e6 * perSecond * filling * car.manifoldKpa * turning) / (GAS_CONSTANT_AIR * intakeK);

  // Flow through a throttle falls as the pressures on its sides come near each other; full below half.
  const ratio = Math.max(0.5, charge / upstream);
  const flow = 2 * Math.sqrt(ratio * (1 - ratio)) * (upstream / traits.airKpa);
  const area = car.airGps / (flow * THROTTLE_FLOW_GPS);
  const throttle = burns ? (overrun ? 11 : 3 + 97 * Math.sqrt(Math.min(1, area))) : 8;
  car.throttlePercent += (throttle - car.throttlePercent) * (STEP_S / 0.2);

  // Cold engines, and those short of air, run rich.
  const rich = 1 + 0.35 * clogged + 0.002 * Math.max(0, 60 - car.coolantC);
  const fuel = burns && !overrun ? (car.airGps / STOICHIOMETRIC) * rich : 0;
  car.fuelGps += (fuel - car.fuelGps) * (STEP_S / 0.3);
}

function stepHeat(car: VehicleState, traits: CarTraits, faults: FaultMagnitudes): void {
  const leak = faults.coolantLeak;
  const heat = car.fuelGps * FUEL_J_PER_G * COOLANT_PART;

  // The thermostat's wax follows in seconds, over 8 K from shut to open.
  const open = clamp((car.coolantC - traits.thermostatC) / 8, 0, 1);
  car.thermostatOpen += (Math.max(open, 0.6 * faults.thermostatOpen) - car.thermostatOpen) * (STEP_S / 6);
  if (car.coolantC > 98) car.fanOn = car.engineOn;
  else if (car.coolantC < 94) car.fanOn = false;

  // Without coolant little heat reaches the radiator, and less water has to be heated; in the end it boils.
  const radiator = car.engineOn ? car.thermostatOpen * (50 + 28 * car.speed + (car.fanOn ? 260 : 0)) : 0;
  const direct = car.engineOn ? 18 + 0.5 * car.speed : 14;
  const over = Math.max(0, car.coolantC - 108);
  const reaches = (1 - 0.97 * leak) / (1 + 6 * leak);
  const loss = (direct * (1 - 0.6 * leak) + radiator * reaches) * (car.coolantC - car.ambientC);
  car.coolantC += ((heat - loss - 180 * over * over) / (COOLANT_HEAT_J_PER_K * (1 - 0.5 * leak))) * STEP_S;

  const bearingHeat =
    0.22 * frictionTorque(car) * car.rpm * ((2 * Math.PI) / 60) * (1 + faults.engineBearing);
  const oilLoss = 50 * (car.oilC - car.coolantC) + (4 + 0.25 * car.speed) * (car.oilC - car.ambientC);
  car.oilC += ((bearingHeat - (car.engineOn ? oilLoss : 0.1 * oilLoss)) / OIL_HEAT_J_PER_K) * STEP_S;

  // Hot metal warms slow air; fast air stays as it came.
  const soak = (0.42 * Math.max(0, car.coolantC - car.ambientC)) / (1 + car.airGps / 5 + car.speed / 15);
  car.intakeC += (car.ambientC + 2 + soak - car.intakeC) * (STEP_S / 45);
}

function stepBattery(car: VehicleState, traits: CarTraits, faults: FaultMagnitudes, random: Random): void {
  const dead = faults.batteryCell;
  const load = traits.consumersA + car.comfortA + (car.fanOn ? 22 : 0);
  let volts: number;
  let amps: number;
  if (car.engineOn && car.starterLeft === 0) {
    // The alternator charges harder on the overrun and spares the engine when it pulls.
    const cold = 0.012 * (20 - car.ambientC);
    const wanted = 14.25 + cold - 0.35 * (car.load - 0.3) + (car.fuelGps < 0.05 ? 0.2 : 0);
    const most = ALTERNATOR_MAX_A * Math.min(1, 0.62 + 0.38 * (car.rpm / 2200)) - load;
    // A cell that shorts takes its two volts out, and draws whatever the alternator has left.
    const ohm = CHARGING_OHM + traits.batteryOhm;
    const source = 12 + 2.4 * car.charge + cold - 2.3 * dead;
    amps = Math.min((wanted - source) / ohm, most);
    volts = source + amps * ohm - 0.01 * dead * load;
  } else {
    amps = -(car.starterLeft > 0 ? STARTER_A : 0.45 * load);
    volts = 11.75 + 1.05 * car.charge - 1.2 * dead + amps * traits.batteryOhm * (1 + 2 * dead);
  }
  car.charge = clamp(car.charge + ((amps * (1 - dead) - 35 * dead) / BATTERY_COULOMB) * STEP_S, 0.3, 1);
  // The battery sensor averages over a second.
  car.batteryA += (amps + 0.6 * random.normal() - car.batteryA) * (STEP_S / 1);
  car.batteryV += (volts - car.batteryV) * (STEP_S / 1);
}

function stepTyres(car: VehicleState, traits: CarTraits, faults: FaultMagnitudes): void {
  for (let wheel = 0; wheel < 4; wheel++) {
    const flat = faults.puncture[wheel]!;
    // Flexing warms a tyre, more so a soft one.
    const steady = car.ambientC + 0.75 * car.speed * (1 + 0.6 * flat);
    const warm = car.tyreC[wheel]!;
    car.tyreC[wheel] = warm + (steady - warm) * (STEP_S / 400);
    // The gas law holds for absolute pressure.
    const absolute = (traits.tyreFillKpa[wheel]! + traits.airKpa) * (1 - 0.34 * flat);
    car.tyreKpa[wheel] = (absolute * (warm + 273)) / (traits.fillC + 273) - traits.airKpa;
  }
}

function stepVibration(car: VehicleState, traits: CarTraits, faults: FaultMagnitudes, random: Random): void {
  const kiloRpm = car.rpm / 1000;
  // Free forces of inertia grow with the square of the speed, combustion with the load.
  const smooth = (0.9 * Math.min(1, kiloRpm / 0.5) + 0.35 * kiloRpm * kiloRpm) * (0.75 + 0.5 * car.load);
  const worn = 2.2 * faults.engineBearing * kiloRpm;
  car.engineVibration = smooth * traits.engineRoughness + worn + 0.03;

  const shared = car.roughness * car.speed * 0.085 * (1 + 0.06 * random.normal());
  for (let wheel = 0; wheel < 4; wheel++) {
    const bearing = faults.hubBearing[wheel]! * 0.19 * car.speed;
    const flat = faults.puncture[wheel]! * 0.02 * car.speed;
    car.hubVibration[wheel] = 0.04 + shared * traits.hubRoughness[wheel]! + bearing + flat;
  }
}

/** One step of an Ornstein-Uhlenbeck process: a random walk that comes back to its mean. */
function wander(value: number, mean: number, deviation: number, tauS: number, random: Random): number {
  return (
    value + ((mean - value) * STEP_S) / tauS + deviation * Math.sqrt((2 * STEP_S) / tauS) * random.normal()
  );
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}
