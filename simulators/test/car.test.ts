import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { compileDecoder, parseDbc, readVssMap, type CanFrame } from '@cardan/agent';
import { beforeAll, describe, expect, it } from 'vitest';
import { Car, CAR_DBC_PATH, CAR_VSS_PATH, type CarState } from '../src/car.ts';
import { Random } from '../src/random.ts';

const START = Date.UTC(2026, 0, 1);
const dbc = parseDbc(readFileSync(CAR_DBC_PATH));
const NAMES = dbc.messages.flatMap(({ signals }) => signals.map(({ name }) => name));
type Row = Record<string, number>;

/** What the bus said last of every signal, once a second. */
function drive(car: Car, seconds: number, start = START): Row[] {
  const decoder = compileDecoder(dbc);
  const take = (frame: CanFrame) => decoder.find(frame.id, frame.extended)?.decode(frame.data);
  const rows: Row[] = [];
  for (let second = 1; second <= seconds; second++) {
    car.advance(start + second * 1000, take);
    // After a second the slowest message has come.
    rows.push(Object.fromEntries(NAMES.map((name, slot) => [name, decoder.values[slot]!])));
  }
  return rows;
}

function fingerprint(car: Car, until: number, stepMs: number): string {
  const hash = createHash('sha256');
  const from = car.state.time;
  for (let time = from + stepMs; time < until + stepMs; time += stepMs)
    car.advance(Math.min(time, until), ({ time, id, data }) => hash.update(`${time} ${id} `).update(data));
  return hash.digest('hex');
}

const newCar = (seed: number, id = 'car-1') => new Car({ id, seed, startTime: START });
const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values: number[]) => {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
};
function correlation(xs: number[], ys: number[]): number {
  const [mx, my] = [mean(xs), mean(ys)];
  return mean(xs.map((x, i) => (x - mx) * (ys[i]! - my))) / (deviation(xs) * deviation(ys));
}

describe('a seeded car', () => {
  it('gives the same frames however the time is cut', () => {
    const until = START + 30_000;
    const whole = fingerprint(newCar(7), until, 30_000);
    expect(fingerprint(newCar(7), until, 37)).toBe(whole);
    expect(fingerprint(newCar(8), until, 30_000)).not.toBe(whole);
    expect(fingerprint(newCar(7, 'car-2'), until, 30_000)).not.toBe(whole);
  });

  it('goes on bit by bit from its state as JSON', () => {
    const car = newCar(3);
    car.inject({ kind: 'coolant-leak', onset: START + 10_000, severity: 0.9, growthMs: 60_000 });
    car.inject({ kind: 'stuck-sensor', onset: START + 20_000, severity: 1, growthMs: 0 });
    car.advance(START + 33_333, () => {});
    const json = JSON.stringify(car.state);
    const restored = Car.restore(JSON.parse(json) as CarState);
    expect(restored.truth()).toEqual(car.truth());
    const rest = fingerprint(car, START + 90_000, 1000);
    expect(fingerprint(restored, START + 90_000, 250)).toBe(rest);
    expect(JSON.stringify(restored.state)).toBe(JSON.stringify(car.state));
  });

  it('hands out a copy of its state', () => {
    const car = newCar(3);
    car.state.vehicle.coolantC = -100;
    expect(car.state.vehicle.coolantC).toBeGreaterThan(0);
  });

  it('refuses a state of another version', () => {
    const state = { ...newCar(1).state, version: 2 } as unknown as CarState;
    expect(() => Car.restore(state)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});

describe('the bus', () => {
  it('carries every message at its period, in order of time', () => {
    const times = new Map<number, number[]>();
    let last = START;
    let frames = 0;
    let ordered = true;
    let whole = true;
    newCar(5).advance(START + 10_000, ({ time, id, data }) => {
      ordered &&= time >= last;
      last = time;
      frames++;
      whole &&= data.length === dbc.messages.find((message) => message.id === id)!.length;
      times.set(id, [...(times.get(id) ?? []), time]);
    });
    expect(ordered).toBe(true);
    expect(whole).toBe(true);
    expect(frames / 10).toBeGreaterThan(200);
    expect(frames / 10).toBeLessThan(300);
    for (const { id, cycleTimeMs } of dbc.messages) {
      const seen = times.get(id)!;
      expect(seen).toHaveLength(10_000 / cycleTimeMs!);
      const gaps = seen.slice(1).map((time, i) => time - seen[i]!);
      expect(new Set(gaps)).toEqual(new Set([cycleTimeMs]));
    }
  });

  it('carries what the car is, within noise and quantisation', () => {
    const car = newCar(11);
    const last = drive(car, 60).at(-1)!;
    const { vehicle } = car.state;
    // Noise ends at 3.47 deviations; then half a bit, and what changed since the slowest message.
    expect(Math.abs(last.CoolantTemperature! - vehicle.coolantC)).toBeLessThan(0.25 * 3.47 + 0.025 + 0.3);
    expect(Math.abs(last.TyrePressureRearRight! - vehicle.tyreKpa[3]!)).toBeLessThan(0.8 * 3.47 + 0.05 + 0.1);
    expect(Math.abs(last.BatteryStateOfCharge! - vehicle.charge * 100)).toBeLessThan(
      0.4 * 3.47 + 0.005 + 0.1,
    );
    expect(Math.abs(last.ThrottlePosition! - vehicle.throttlePercent)).toBeLessThan(0.25 * 3.47 + 0.005 + 8);
    expect(last.CurrentGear).toBe(vehicle.gear);
  });

  it('has every signal mapped to a VSS path of its own', () => {
    const { columns } = readVssMap(CAR_VSS_PATH, dbc);
    expect(columns.map(({ dbcSignal }) => dbcSignal).sort()).toEqual([...NAMES].sort());
    expect(columns.length).toBeGreaterThanOrEqual(18);
    for (const { name } of columns) expect(name).toMatch(/^Vehicle(\.[A-Z][A-Za-z0-9]*)+$/);
  });
});

describe('healthy cars', () => {
  const HOURS = 2;
  const CARS = 6;
  const fleet: Row[][] = [];
  beforeAll(() => {
    for (let seed = 0; seed < CARS; seed++) fleet.push(drive(newCar(seed, `car-${seed}`), HOURS * 3600));
  });

  // Bounds of a sound car in temperate weather, from cold start to motorway.
  const BOUNDS: Record<string, [number, number]> = {
    VehicleSpeed: [0, 150],
    CurrentGear: [0, 6],
    EngineSpeed: [0, 4500],
    ThrottlePosition: [0, 100],
    EngineLoad: [0, 100],
    MassAirFlow: [0, 60],
    ManifoldPressure: [15, 105],
    FuelRate: [0, 20],
    CoolantTemperature: [5, 102],
    OilTemperature: [5, 125],
    IntakeTemperature: [5, 70],
    AmbientTemperature: [5, 30],
    EngineVibration: [0, 15],
    BatteryVoltage: [11.5, 14.8],
    BatteryCurrent: [-150, 60],
    BatteryStateOfCharge: [80, 97],
  };
  for (const wheel of ['FrontLeft', 'FrontRight', 'RearLeft', 'RearRight']) {
    BOUNDS[`HubVibration${wheel}`] = [0, 8];
    BOUNDS[`TyrePressure${wheel}`] = [200, 290];
  }

  it.each(NAMES)('keep %s within physical bounds for hours', (name) => {
    const [low, high] = BOUNDS[name]!;
    for (const rows of fleet) {
      const values = rows.map((row) => row[name]!).sort((a, b) => a - b);
      expect(values[0]).toBeGreaterThanOrEqual(low);
      expect(values.at(-1)).toBeLessThanOrEqual(high);
      expect(values.every(Number.isFinite)).toBe(true);
    }
  });

  it('drive in all regimes, and stand still at times', () => {
    const speeds = fleet.flat().map((row) => row.VehicleSpeed!);
    const part = (low: number, high: number) =>
      speeds.filter((speed) => speed >= low && speed < high).length / speeds.length;
    expect(part(0, 0.1)).toBeGreaterThan(0.08);
    expect(part(0, 0.1)).toBeLessThan(0.35);
    expect(part(20, 60)).toBeGreaterThan(0.2);
    expect(part(60, 100)).toBeGreaterThan(0.1);
    expect(part(100, 150)).toBeGreaterThan(0.05);
    const parked = fleet.flat().filter((row) => row.EngineSpeed === 0).length / speeds.length;
    expect(parked).toBeGreaterThan(0.02);
    expect(parked).toBeLessThan(0.15);
  });

  it('hang together as one machine', () => {
    const running = fleet.flat().filter((row) => row.EngineSpeed! > 600);
    const column = (rows: Row[], name: string) => rows.map((row) => row[name]!);
    const linked = (rows: Row[], one: string, other: string) =>
      correlation(column(rows, one), column(rows, other));

    for (let gear = 2; gear <= 6; gear++) {
      const inGear = running.filter((row) => row.CurrentGear === gear && row.VehicleSpeed! > 15);
      expect(linked(inGear, 'VehicleSpeed', 'EngineSpeed')).toBeGreaterThan(0.9);
    }
    expect(linked(running, 'EngineLoad', 'ManifoldPressure')).toBeGreaterThan(0.95);
    expect(linked(running, 'MassAirFlow', 'EngineLoad')).toBeGreaterThan(0.7);
    expect(linked(running, 'MassAirFlow', 'ThrottlePosition')).toBeGreaterThan(0.8);
    const burning = running.filter((row) => row.FuelRate! > 0.5);
    expect(linked(burning, 'MassAirFlow', 'FuelRate')).toBeGreaterThan(0.95);
    expect(linked(running, 'BatteryVoltage', 'BatteryCurrent')).toBeGreaterThan(0.5);
    expect(linked(running, 'EngineSpeed', 'EngineVibration')).toBeGreaterThan(0.8);
    expect(linked(running, 'VehicleSpeed', 'HubVibrationFrontLeft')).toBeGreaterThan(0.8);
    expect(linked(running, 'HubVibrationRearLeft', 'HubVibrationFrontRight')).toBeGreaterThan(0.9);
    for (const rows of fleet)
      expect(linked(rows, 'TyrePressureFrontLeft', 'TyrePressureRearRight')).toBeGreaterThan(0.8);

    // Ideal gas: flow = displacement · revolutions / 2 · filling · pressure / (R · T).
    const filling = running
      .filter((row) => Math.abs(row.EngineSpeed! - 2000) < 300)
      .map((row) => {
        const volume = (1.6e-3 * row.EngineSpeed!) / 120;
        return (
          row.MassAirFlow! / ((1e6 * volume * row.ManifoldPressure!) / (287 * (row.IntakeTemperature! + 273)))
        );
      });
    expect(mean(filling)).toBeGreaterThan(0.7);
    expect(mean(filling)).toBeLessThan(0.95);
  });

  it('burn as much as a compact car does', () => {
    const rows = fleet.flat();
    const litres = rows.reduce((sum, row) => sum + row.FuelRate! / 3600, 0);
    const kilometres = rows.reduce((sum, row) => sum + row.VehicleSpeed! / 3600, 0);
    expect((100 * litres) / kilometres).toBeGreaterThan(4.5);
    expect((100 * litres) / kilometres).toBeLessThan(9);
  });

  it('look the same in their first ten minutes as hours later', () => {
    const warm = fleet.filter((rows) => rows[0]!.CoolantTemperature! > 70);
    expect(warm.length).toBeGreaterThan(CARS / 2);
    for (const name of NAMES) {
      const early = warm.flatMap((rows) => rows.slice(2, 602).map((row) => row[name]!));
      const late = warm.flatMap((rows) => rows.slice(-3600).map((row) => row[name]!));
      expect(Math.abs(mean(early) - mean(late)), name).toBeLessThan(0.5 * deviation(late));
    }
  });

  it('begin warm, but for a few', () => {
    const temperatures = Array.from({ length: 100 }, (_, i) => newCar(i, `cold-${i}`).state.vehicle.coolantC);
    const cold = temperatures.filter((temperature) => temperature < 40).length;
    expect(cold).toBeGreaterThanOrEqual(2);
    expect(cold).toBeLessThanOrEqual(18);
    const between = temperatures.filter((temperature) => temperature >= 40 && temperature < 80);
    expect(between).toHaveLength(0);
  });
});

describe('random numbers', () => {
  it('are those of sfc32, worked out by hand', () => {
    const random = Random.restore([1, 2, 3, 4]);
    // 1 + 2 + 4; then a = 2 ^ (2 >>> 9), b = 3 + (3 << 3), c = rotate(3, 21) + 7, counter = 5.
    expect(random.uint32()).toBe(7);
    expect(random.state).toEqual([2, 27, 3 * 2 ** 21 + 7, 5]);
    expect(random.uint32()).toBe(2 + 27 + 5);
  });

  it('have the moments of their distributions', () => {
    const random = new Random(1, 'moments');
    const normal = Array.from({ length: 50_000 }, () => random.normal());
    expect(Math.abs(mean(normal))).toBeLessThan(0.02);
    expect(Math.abs(deviation(normal) - 1)).toBeLessThan(0.01);
    expect(normal.every((value) => Math.abs(value) < 3.47)).toBe(true);
    const uniform = Array.from({ length: 50_000 }, () => random.between(2, 4));
    expect(Math.abs(mean(uniform) - 3)).toBeLessThan(0.01);
    expect(uniform.every((value) => value >= 2 && value < 4)).toBe(true);
  });
});
