import { describe, expect, it } from 'vitest';

const path = '../../src/monitor/page/labels.js';
const { shortLabels, labelOf } = (await import(path)) as {
  shortLabels: (names: string[]) => string[];
  labelOf: (name: string, set?: string[]) => string;
};

const wheel = (row: number, side: string) => `Vehicle.Chassis.Axle.Row${row}.Wheel.${side}.Tire.Pressure`;

describe('labels of signals', () => {
  it('are the last part of a VSS path, in words', () => {
    expect(shortLabels(['Vehicle.OBD.EngineLoad', 'Vehicle.Speed', 'Vehicle.OBD.ECT'])).toEqual([
      'Engine load',
      'Speed',
      'ECT',
    ]);
  });

  it('leave out that a value is the current one', () => {
    const battery = ['CurrentVoltage', 'CurrentCurrent'].map((name) => `Vehicle.LowVoltageBattery.${name}`);
    expect(shortLabels(battery)).toEqual(['Voltage', 'Current']);
  });

  it('take the part before where the last one says nothing', () => {
    expect(shortLabels(['Vehicle.Powertrain.CombustionEngine.EngineCoolant.Temperature'])).toEqual([
      'Engine coolant temperature',
    ]);
  });

  it('say what tells siblings apart', () => {
    const names = [wheel(1, 'Left'), wheel(1, 'Right'), wheel(2, 'Left')];
    expect(shortLabels(names)).toEqual([
      'Tire pressure · row 1 left',
      'Tire pressure · row 1 right',
      'Tire pressure · row 2 left',
    ]);
    expect(labelOf(wheel(2, 'Left'), names)).toBe('Tire pressure · row 2 left');
    expect(labelOf(wheel(2, 'Left'))).toBe('Tire pressure');
  });

  it('are made of names of a DBC, too, and are never the same twice', () => {
    expect(shortLabels(['ENGINE_RPM', 'VehicleSpeed', 'VEHICLE_SPEED_2'])).toEqual([
      'ENGINE RPM',
      'Vehicle speed',
      'VEHICLE SPEED 2',
    ]);
    const labels = shortLabels(['A.x', 'A.x.x', 'A_x', 'A x']);
    expect(new Set(labels).size).toBe(4);
  });
});
