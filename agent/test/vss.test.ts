import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseDbc } from '../src/dbc/index.ts';
import { mapAllSignals, readVssMap } from '../src/vss.ts';

const dir = mkdtempSync(join(tmpdir(), 'vss-'));
afterAll(() => rmSync(dir, { recursive: true }));

const dbc = parseDbc(`VERSION ""
BO_ 1 Engine: 8 ECU
 SG_ Speed : 0|16@1+ (0.25,0) [0|0] "rpm" X
 SG_ Temp : 16|8@1+ (1,-40) [0|0] "degC" X
BO_ 2 Wheels: 8 ECU
 SG_ Speed : 0|16@1+ (0.01,0) [0|0] "km/h" X
`);
function map(yaml: string) {
  const path = join(dir, 'map.yaml');
  writeFileSync(path, yaml);
  return readVssMap(path, dbc);
}

describe('mapAllSignals', () => {
  it('sends every signal under its DBC name; a name that is not unique gets its message', () => {
    const { set, columns } = mapAllSignals(dbc);
    expect(set.signals).toEqual([
      { name: 'Engine.Speed', unit: 'rpm' },
      { name: 'Temp', unit: 'degC' },
      { name: 'Wheels.Speed', unit: 'km/h' },
    ]);
    expect(columns.map(({ message, dbcSignal }) => `${message}/${dbcSignal}`)).toEqual([
      'Engine/Speed',
      'Engine/Temp',
      'Wheels/Speed',
    ]);
  });
});

describe('readVssMap', () => {
  it('reads DBC signal: VSS path, in the order of the file', () => {
    const { columns } = map('Wheels.Speed: Vehicle.Speed\nTemp: Vehicle.Powertrain.CombustionEngine.ECT\n');
    expect(columns).toEqual([
      { name: 'Vehicle.Speed', unit: 'km/h', message: 'Wheels', dbcSignal: 'Speed' },
      { name: 'Vehicle.Powertrain.CombustionEngine.ECT', unit: 'degC', message: 'Engine', dbcSignal: 'Temp' },
    ]);
  });

  it('reads a VSS overlay with dbc2vss, and passes its branches over', () => {
    const { columns } = map(`
Vehicle:
  type: branch
Vehicle.Speed:
  type: sensor
  datatype: float
  unit: km/h
  dbc2vss:
    message: Wheels
    signal: Speed
`);
    expect(columns).toEqual([{ name: 'Vehicle.Speed', unit: 'km/h', message: 'Wheels', dbcSignal: 'Speed' }]);
  });

  it.each([
    ['Nothing: Vehicle.Speed', /no signal "Nothing"/],
    ['Temp: [1]', /entry "Temp"/],
    ['Temp: Vehicle.A\nEngine.Temp: Vehicle.A', /two entries go to Vehicle.A/],
    ['- Temp', /not a YAML mapping/],
    ['', /not a YAML mapping/],
    ['a: b: c', /VSS map/],
    ['Vehicle:\n  type: branch', /maps no signal/],
  ])('refuses %j, and says why', (yaml, message) => {
    expect(() => map(yaml)).toThrow(
      expect.objectContaining({
        code: 'VSS_MAP_INVALID',
        message: expect.stringMatching(message) as string,
      }) as Error,
    );
  });

  it('names the file that is missing', () => {
    expect(() => readVssMap(join(dir, 'none.yaml'), dbc)).toThrow(/none\.yaml/);
  });
});
