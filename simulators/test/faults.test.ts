import { readFileSync } from 'node:fs';
import { compileDecoder, parseDbc, type CanFrame } from '@cardan/agent';
import { describe, expect, it } from 'vitest';
import { Car, CAR_DBC_PATH } from '../src/car.ts';
import { FAULT_KINDS, type Fault } from '../src/faults.ts';

const START = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;
const dbc = parseDbc(readFileSync(CAR_DBC_PATH));
const NAMES = dbc.messages.flatMap(({ signals }) => signals.map(({ name }) => name));
const WHEELS = ['FrontLeft', 'FrontRight', 'RearLeft', 'RearRight'];
const SEEDS = [1, 2, 3, 4];
type Row = Record<string, number>;

function drive(car: Car, from: number, minutes: number): Row[] {
  const decoder = compileDecoder(dbc);
  const take = (frame: CanFrame) => decoder.find(frame.id, frame.extended)?.decode(frame.data);
  car.advance(from, take);
  const rows: Row[] = [];
  for (let second = 1; second <= minutes * 60; second++) {
    car.advance(from + second * 1000, take);
    rows.push(Object.fromEntries(NAMES.map((name, slot) => [name, decoder.values[slot]!])));
  }
  return rows;
}

const newCar = (seed: number) => new Car({ id: 'car-1', seed, startTime: START });
const mean = (rows: Row[], name: string) => rows.reduce((sum, row) => sum + row[name]!, 0) / rows.length;
const running = (rows: Row[]) => rows.filter((row) => row.EngineSpeed! > 600);

/** Ten minutes of the same car with and without a fault that had two minutes to grow. */
function twins(seed: number, fault: Omit<Fault, 'onset' | 'growthMs' | 'severity'> & { severity?: number }) {
  const onset = START + MINUTE;
  const from = onset + 2 * MINUTE;
  const faulty = newCar(seed);
  faulty.inject({ severity: 1, ...fault, onset, growthMs: 2 * MINUTE });
  return { faulty: drive(faulty, from, 10), healthy: drive(newCar(seed), from, 10) };
}

describe.each(SEEDS)('car %i', (seed) => {
  it('runs hot when it leaks coolant', () => {
    const { faulty, healthy } = twins(seed, { kind: 'coolant-leak', severity: 0.8 });
    const hottest = Math.max(...faulty.map((row) => row.CoolantTemperature!));
    expect(hottest).toBeGreaterThan(108);
    expect(hottest).toBeLessThan(122);
    const last = (rows: Row[]) => mean(running(rows).slice(-300), 'CoolantTemperature');
    expect(last(faulty)).toBeGreaterThan(last(healthy) + 12);
  });

  it('stays cold when its thermostat is stuck open', () => {
    const { faulty, healthy } = twins(seed, { kind: 'thermostat-stuck-open', severity: 0.8 });
    const last = (rows: Row[], name: string) => mean(running(rows).slice(-300), name);
    expect(last(faulty, 'CoolantTemperature')).toBeLessThan(last(healthy, 'CoolantTemperature') - 15);
    expect(last(faulty, 'OilTemperature')).toBeLessThan(last(healthy, 'OilTemperature') - 8);
  });

  it('shakes over its engine speed when the main bearing wears', () => {
    const { faulty, healthy } = twins(seed, { kind: 'bearing-wear', severity: 0.8 });
    expect(mean(running(faulty), 'EngineVibration')).toBeGreaterThan(
      1.6 * mean(running(healthy), 'EngineVibration'),
    );
    expect(mean(faulty, 'HubVibrationFrontLeft')).toBeCloseTo(mean(healthy, 'HubVibrationFrontLeft'), 1);
  });

  it('shakes over its speed at the one wheel whose bearing wears', () => {
    const { faulty, healthy } = twins(seed, { kind: 'bearing-wear', wheel: 2, severity: 0.8 });
    WHEELS.forEach((wheel, index) => {
      const ratio = mean(faulty, `HubVibration${wheel}`) / mean(healthy, `HubVibration${wheel}`);
      if (index === 2) expect(ratio).toBeGreaterThan(1.8);
      else expect(ratio).toBeCloseTo(1, 1);
    });
    expect(mean(faulty, 'EngineVibration')).toBeCloseTo(mean(healthy, 'EngineVibration'), 1);
  });

  it('sags, charges for ever and rests low when a battery cell fails', () => {
    const { faulty, healthy } = twins(seed, { kind: 'battery-cell', severity: 0.8 });
    expect(mean(running(faulty), 'BatteryVoltage')).toBeLessThan(
      mean(running(healthy), 'BatteryVoltage') - 0.2,
    );
    expect(mean(running(faulty), 'BatteryCurrent')).toBeGreaterThan(
      mean(running(healthy), 'BatteryCurrent') + 10,
    );
    const resting = (rows: Row[]) => Math.min(...rows.map((row) => row.BatteryVoltage!));
    expect(resting(faulty)).toBeLessThan(resting(healthy) - 0.5);
  });

  it('loses the air of one tyre', () => {
    const { faulty, healthy } = twins(seed, { kind: 'slow-puncture', wheel: 1 });
    WHEELS.forEach((wheel, index) => {
      const lost = mean(healthy, `TyrePressure${wheel}`) - mean(faulty, `TyrePressure${wheel}`);
      if (index === 1) expect(lost).toBeGreaterThan(80);
      else expect(Math.abs(lost)).toBeLessThan(0.5);
    });
    expect(mean(faulty, 'TyrePressureFrontRight')).toBeGreaterThan(100);
    expect(mean(faulty, 'TyrePressureFrontRight')).toBeLessThan(150);
  });

  it('gets less air for its throttle through a clogged filter', () => {
    const { faulty, healthy } = twins(seed, { kind: 'clogged-air-filter', severity: 0.8 });
    const perThrottle = (rows: Row[], name: string) =>
      mean(running(rows), name) / mean(running(rows), 'ThrottlePosition');
    expect(perThrottle(faulty, 'MassAirFlow')).toBeLessThan(0.8 * perThrottle(healthy, 'MassAirFlow'));
    expect(perThrottle(faulty, 'ManifoldPressure')).toBeLessThan(
      0.8 * perThrottle(healthy, 'ManifoldPressure'),
    );
    expect(mean(running(faulty), 'ManifoldPressure')).toBeLessThan(
      mean(running(healthy), 'ManifoldPressure') - 3,
    );
    // Going uphill at full load it cannot rise any more.
    expect(mean(running(faulty), 'EngineLoad')).toBeGreaterThan(1.1 * mean(running(healthy), 'EngineLoad'));
    const perPressure = (rows: Row[]) =>
      mean(running(rows), 'EngineLoad') / mean(running(rows), 'ManifoldPressure');
    expect(perPressure(faulty)).toBeGreaterThan(1.4 * perPressure(healthy));
  });

  it('shows one value for ever from a stuck sensor, and drives on as before', () => {
    const { faulty, healthy } = twins(seed, { kind: 'stuck-sensor', signal: 'ManifoldPressure' });
    expect(new Set(faulty.map((row) => row.ManifoldPressure)).size).toBe(1);
    const others = (row: Row) => ({ ...row, ManifoldPressure: 0 });
    expect(faulty.map(others)).toEqual(healthy.map(others));
  });
});

describe('a fault', () => {
  const fault: Fault = { kind: 'clogged-air-filter', onset: START + 20_000, severity: 0.8, growthMs: 40_000 };

  it('changes nothing before its onset', () => {
    const collect = (car: Car, until: number) => {
      const frames: string[] = [];
      car.advance(until, ({ time, id, data }) =>
        frames.push(`${time} ${id} ${Buffer.from(data).toString('hex')}`),
      );
      return frames;
    };
    for (const kind of FAULT_KINDS) {
      const car = newCar(9);
      car.inject({ ...fault, kind });
      // Steps of physics are 100 ms: the last one before the onset.
      expect(collect(car, START + 19_900)).toEqual(collect(newCar(9), START + 19_900));
      expect(car.truth()).toEqual([]);
    }
  });

  it('grows in a line from its onset to its severity, and stays', () => {
    const car = newCar(1);
    car.inject(fault);
    const magnitudeAt = (seconds: number) => {
      car.advance(START + seconds * 1000, () => {});
      return car.truth()[0]?.magnitude;
    };
    expect(magnitudeAt(19)).toBeUndefined();
    expect(magnitudeAt(20)).toBe(0);
    expect(magnitudeAt(40)).toBeCloseTo(0.4);
    expect(magnitudeAt(60)).toBeCloseTo(0.8);
    expect(magnitudeAt(120)).toBeCloseTo(0.8);
    expect(car.truth()).toEqual([{ ...fault, magnitude: 0.8 }]);
  });

  it('is stronger the more severe it is', () => {
    const engineLoad = [0.3, 0.6, 1].map((severity) =>
      mean(running(twins(2, { kind: 'clogged-air-filter', severity }).faulty), 'EngineLoad'),
    );
    expect(engineLoad).toEqual([...engineLoad].sort((a, b) => a - b));
  });

  it('replaces one of the same part, and adds to those of others', () => {
    const car = newCar(1);
    const puncture: Fault = { kind: 'slow-puncture', onset: START, severity: 0.5, growthMs: 0, wheel: 0 };
    car.inject(puncture);
    car.inject({ ...puncture, severity: 0.9 });
    car.inject({ ...puncture, wheel: 3 });
    expect(car.truth().map(({ wheel, magnitude }) => [wheel, magnitude])).toEqual([
      [0, 0.9],
      [3, 0.5],
    ]);
  });

  it('ends with its repair, for one kind or for all', () => {
    const car = newCar(1);
    for (const kind of FAULT_KINDS) car.inject({ kind, onset: START, severity: 1, growthMs: 0 });
    drive(car, START, 10);
    car.repair('stuck-sensor');
    expect(car.truth().map(({ kind }) => kind)).not.toContain('stuck-sensor');
    expect(car.truth()).toHaveLength(FAULT_KINDS.length - 1);
    car.repair();
    expect(car.truth()).toEqual([]);
    const after = drive(car, START + 20 * MINUTE, 10);
    expect(new Set(after.map((row) => row.MassAirFlow)).size).toBeGreaterThan(100);
    expect(mean(after, 'TyrePressureFrontLeft')).toBeGreaterThan(210);
    expect(mean(running(after), 'CoolantTemperature')).toBeGreaterThan(85);
    expect(mean(running(after), 'CoolantTemperature')).toBeLessThan(97);
    expect(mean(running(after), 'BatteryVoltage')).toBeGreaterThan(13.8);
  });

  it('never throws a signal out of its range, alone or with all others', () => {
    const car = newCar(6);
    for (const kind of FAULT_KINDS) car.inject({ kind, onset: START, severity: 1, growthMs: MINUTE });
    for (const wheel of [0, 1, 2, 3] as const)
      car.inject({ kind: 'bearing-wear', wheel, onset: START, severity: 1, growthMs: MINUTE });
    for (const row of drive(car, START + 1000, 40)) {
      expect(Object.values(row).every(Number.isFinite)).toBe(true);
      expect(row.CoolantTemperature).toBeLessThan(123);
      expect(row.BatteryVoltage).toBeGreaterThan(9);
      expect(row.TyrePressureFrontLeft).toBeGreaterThan(90);
      expect(row.OilTemperature).toBeLessThan(150);
    }
  });

  it.each([
    ['kind', { kind: 'flat-battery' as Fault['kind'] }],
    ['severity', { severity: 0 }],
    ['severity', { severity: 1.5 }],
    ['onset', { onset: Number.NaN }],
    ['growthMs', { growthMs: -1 }],
    ['wheel', { wheel: 4 as Fault['wheel'] & number }],
    ['signal', { kind: 'stuck-sensor' as const, signal: 'Radio' }],
  ])('with a wrong %s is refused', (word, change) => {
    const car = newCar(1);
    const inject = () => car.inject({ ...fault, ...change });
    expect(inject).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(inject).toThrow(new RegExp(word));
    expect(car.state.faults).toEqual([]);
  });
});
