/** One number out of the data of a PID. */
export interface ObdSignal {
  name: string;
  unit: string;
  /** @param data the bytes behind the PID; by SAE J1979 A, B, C, D */
  value: (data: Uint8Array) => number;
}

export interface ObdPid {
  pid: number;
  /** Bytes behind the PID. */
  length: number;
  signals: ObdSignal[];
}

type Formula = (a: number, b: number, c: number, d: number) => number;

function signal(name: string, unit: string, formula: Formula): ObdSignal {
  return { name, unit, value: (data) => formula(data[0]!, data[1]!, data[2]!, data[3]!) };
}

function one(pid: number, length: number, name: string, unit: string, formula: Formula): [number, ObdPid] {
  return [pid, { pid, length, signals: [signal(name, unit, formula)] }];
}

const percent: Formula = (a) => (a * 100) / 255;
const temperature: Formula = (a) => a - 40;
const trim: Formula = (a) => (a * 100) / 128 - 100;
const word: Formula = (a, b) => 256 * a + b;
const catalyst: Formula = (a, b) => word(a, b, 0, 0) / 10 - 40;
const lambda: Formula = (a, b) => word(a, b, 0, 0) / 32_768;
const signed16 = (a: number, b: number): number => ((a << 24) | (b << 16)) >> 16;

/** An oxygen sensor of bank and number, narrow-band: voltage and its short-term trim. */
function oxygen(pid: number, name: string): [number, ObdPid] {
  return [
    pid,
    {
      pid,
      length: 2,
      signals: [
        signal(`OxygenSensor${name}Voltage`, 'V', (a) => a / 200),
        signal(`OxygenSensor${name}ShortTermFuelTrim`, '%', (_a, b) => trim(b, 0, 0, 0)),
      ],
    },
  ];
}

/** A wide-band oxygen sensor: lambda, and voltage or current. */
function wideBand(pid: number, name: string, what: 'Voltage' | 'Current'): [number, ObdPid] {
  const second =
    what === 'Voltage'
      ? signal(`OxygenSensor${name}WideVoltage`, 'V', (_a, _b, c, d) => (word(c, d, 0, 0) * 8) / 65_536)
      : signal(`OxygenSensor${name}Current`, 'mA', (_a, _b, c, d) => word(c, d, 0, 0) / 256 - 128);
  const name1 = what === 'Voltage' ? `OxygenSensor${name}Lambda` : `OxygenSensor${name}CurrentLambda`;
  return [pid, { pid, length: 4, signals: [signal(name1, '', lambda), second] }];
}

const EIGHT = ['1', '2', '3', '4', '5', '6', '7', '8'];

/** PIDs of mode 01 (current data) whose data are plain numbers, with the formulas of SAE J1979. */
export const OBD_PIDS: ReadonlyMap<number, ObdPid> = new Map<number, ObdPid>([
  [
    0x01,
    {
      pid: 0x01,
      length: 4,
      signals: [
        signal('MalfunctionIndicatorLamp', '', (a) => a >> 7),
        signal('StoredTroubleCodes', '', (a) => a & 0x7f),
      ],
    },
  ],
  one(0x04, 1, 'EngineLoad', '%', percent),
  one(0x05, 1, 'EngineCoolantTemperature', '°C', temperature),
  one(0x06, 1, 'ShortTermFuelTrimBank1', '%', trim),
  one(0x07, 1, 'LongTermFuelTrimBank1', '%', trim),
  one(0x08, 1, 'ShortTermFuelTrimBank2', '%', trim),
  one(0x09, 1, 'LongTermFuelTrimBank2', '%', trim),
  one(0x0a, 1, 'FuelPressure', 'kPa', (a) => 3 * a),
  one(0x0b, 1, 'IntakeManifoldPressure', 'kPa', (a) => a),
  one(0x0c, 2, 'EngineSpeed', 'rpm', (a, b) => (256 * a + b) / 4),
  one(0x0d, 1, 'VehicleSpeed', 'km/h', (a) => a),
  one(0x0e, 1, 'TimingAdvance', '°', (a) => a / 2 - 64),
  one(0x0f, 1, 'IntakeAirTemperature', '°C', temperature),
  one(0x10, 2, 'MassAirFlow', 'g/s', (a, b) => (256 * a + b) / 100),
  one(0x11, 1, 'ThrottlePosition', '%', percent),
  ...EIGHT.map((name, i) => oxygen(0x14 + i, name)),
  one(0x1f, 2, 'TimeSinceEngineStart', 's', word),
  one(0x21, 2, 'DistanceWithMalfunctionLamp', 'km', word),
  one(0x22, 2, 'FuelRailPressureRelative', 'kPa', (a, b) => 0.079 * (256 * a + b)),
  one(0x23, 2, 'FuelRailGaugePressure', 'kPa', (a, b) => 10 * (256 * a + b)),
  ...EIGHT.map((name, i) => wideBand(0x24 + i, name, 'Voltage')),
  one(0x2c, 1, 'CommandedEgr', '%', percent),
  one(0x2d, 1, 'EgrError', '%', trim),
  one(0x2e, 1, 'CommandedEvaporativePurge', '%', percent),
  one(0x2f, 1, 'FuelLevel', '%', percent),
  one(0x30, 1, 'WarmUpsSinceCodesCleared', '', (a) => a),
  one(0x31, 2, 'DistanceSinceCodesCleared', 'km', word),
  one(0x32, 2, 'EvaporativeVaporPressure', 'Pa', (a, b) => signed16(a, b) / 4),
  one(0x33, 1, 'BarometricPressure', 'kPa', (a) => a),
  ...EIGHT.map((name, i) => wideBand(0x34 + i, name, 'Current')),
  one(0x3c, 2, 'CatalystTemperatureBank1Sensor1', '°C', catalyst),
  one(0x3d, 2, 'CatalystTemperatureBank2Sensor1', '°C', catalyst),
  one(0x3e, 2, 'CatalystTemperatureBank1Sensor2', '°C', catalyst),
  one(0x3f, 2, 'CatalystTemperatureBank2Sensor2', '°C', catalyst),
  one(0x42, 2, 'ControlModuleVoltage', 'V', (a, b) => (256 * a + b) / 1000),
  one(0x43, 2, 'AbsoluteLoad', '%', (a, b) => ((256 * a + b) * 100) / 255),
  one(0x44, 2, 'CommandedLambda', '', lambda),
  one(0x45, 1, 'RelativeThrottlePosition', '%', percent),
  one(0x46, 1, 'AmbientAirTemperature', '°C', temperature),
  one(0x47, 1, 'AbsoluteThrottlePositionB', '%', percent),
  one(0x48, 1, 'AbsoluteThrottlePositionC', '%', percent),
  one(0x49, 1, 'AcceleratorPedalPositionD', '%', percent),
  one(0x4a, 1, 'AcceleratorPedalPositionE', '%', percent),
  one(0x4b, 1, 'AcceleratorPedalPositionF', '%', percent),
  one(0x4c, 1, 'CommandedThrottleActuator', '%', percent),
  one(0x4d, 2, 'TimeWithMalfunctionLamp', 'min', word),
  one(0x4e, 2, 'TimeSinceCodesCleared', 'min', word),
  one(0x52, 1, 'EthanolFuel', '%', percent),
  one(0x53, 2, 'EvaporativeVaporPressureAbsolute', 'kPa', (a, b) => (256 * a + b) / 200),
  one(0x59, 2, 'FuelRailPressureAbsolute', 'kPa', (a, b) => 10 * (256 * a + b)),
  one(0x5a, 1, 'RelativeAcceleratorPedalPosition', '%', percent),
  one(0x5b, 1, 'HybridBatteryRemainingLife', '%', percent),
  one(0x5c, 1, 'EngineOilTemperature', '°C', temperature),
  one(0x5d, 2, 'FuelInjectionTiming', '°', (a, b) => (256 * a + b) / 128 - 210),
  one(0x5e, 2, 'EngineFuelRate', 'L/h', (a, b) => (256 * a + b) / 20),
  one(0x61, 1, 'DriverDemandTorque', '%', (a) => a - 125),
  one(0x62, 1, 'ActualEngineTorque', '%', (a) => a - 125),
  one(0x63, 2, 'EngineReferenceTorque', 'Nm', word),
  one(0xa6, 4, 'Odometer', 'km', (a, b, c, d) => (a * 2 ** 24 + b * 2 ** 16 + c * 2 ** 8 + d) / 10),
]);

export interface ObdValue {
  name: string;
  unit: string;
  value: number;
}

/** The named values of a PID; none when the PID is not known here or the data are too short. */
export function decodePid(pid: number, data: Uint8Array): ObdValue[] {
  const known = OBD_PIDS.get(pid);
  if (!known || data.length < known.length) return [];
  return known.signals.map(({ name, unit, value }) => ({ name, unit, value: value(data) }));
}
