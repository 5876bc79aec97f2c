import { signalSet } from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';
import type { Dbc, Message } from '../dbc/index.ts';
import type { MappedSignal, SignalMap } from '../vss.ts';
import { OBD_PIDS, type ObdPid, type ObdValue } from './obd2-pids.ts';

/**
 * Values of PIDs go the way of all signals (rows, scores, campaigns): each PID is a message of the DBC, with a double per
 * value, under an id that no frame of a bus can have, for it is beyond 29 bits.
 */
const ID_FIRST = 2 ** 29;
const BYTES = 8;

const SENSORS = [1, 2, 3, 4, 5, 6, 7, 8];

/** By the name of the value: its path in the branch Vehicle.OBD of VSS 4 and 5 (an overlay since 6), where that has it, in the same unit. */
const VSS: ReadonlyMap<string, string> = new Map([
  ['MalfunctionIndicatorLamp', 'Status.IsMILOn'],
  ['StoredTroubleCodes', 'Status.DTCCount'],
  ['EngineCoolantTemperature', 'CoolantTemperature'],
  ['ShortTermFuelTrimBank1', 'ShortTermFuelTrim1'],
  ['LongTermFuelTrimBank1', 'LongTermFuelTrim1'],
  ['ShortTermFuelTrimBank2', 'ShortTermFuelTrim2'],
  ['LongTermFuelTrimBank2', 'LongTermFuelTrim2'],
  ['IntakeManifoldPressure', 'MAP'],
  ['VehicleSpeed', 'Speed'],
  ['IntakeAirTemperature', 'IntakeTemp'],
  ['MassAirFlow', 'MAF'],
  ['TimeSinceEngineStart', 'RunTime'],
  ['DistanceWithMalfunctionLamp', 'DistanceWithMIL'],
  ['FuelRailPressureRelative', 'FuelRailPressureVac'],
  ['FuelRailGaugePressure', 'FuelRailPressureDirect'],
  ['CommandedEgr', 'CommandedEGR'],
  ['EgrError', 'EGRError'],
  ['CommandedEvaporativePurge', 'CommandedEVAP'],
  ['WarmUpsSinceCodesCleared', 'WarmupsSinceDTCClear'],
  ['DistanceSinceCodesCleared', 'DistanceSinceDTCClear'],
  ['EvaporativeVaporPressure', 'EVAPVaporPressure'],
  ['CatalystTemperatureBank1Sensor1', 'Catalyst.Bank1.Temperature1'],
  ['CatalystTemperatureBank2Sensor1', 'Catalyst.Bank2.Temperature1'],
  ['CatalystTemperatureBank1Sensor2', 'Catalyst.Bank1.Temperature2'],
  ['CatalystTemperatureBank2Sensor2', 'Catalyst.Bank2.Temperature2'],
  ['CommandedLambda', 'CommandedEquivalenceRatio'],
  ['AbsoluteThrottlePositionB', 'ThrottlePositionB'],
  ['AbsoluteThrottlePositionC', 'ThrottlePositionC'],
  ['AcceleratorPedalPositionD', 'AcceleratorPositionD'],
  ['AcceleratorPedalPositionE', 'AcceleratorPositionE'],
  ['AcceleratorPedalPositionF', 'AcceleratorPositionF'],
  ['CommandedThrottleActuator', 'ThrottleActuator'],
  ['TimeWithMalfunctionLamp', 'RunTimeMIL'],
  ['TimeSinceCodesCleared', 'TimeSinceDTCCleared'],
  ['EthanolFuel', 'EthanolPercent'],
  ['EvaporativeVaporPressureAbsolute', 'EVAPVaporPressureAbsolute'],
  ['RelativeAcceleratorPedalPosition', 'RelativeAcceleratorPosition'],
  ['HybridBatteryRemainingLife', 'HybridBatteryRemaining'],
  ['EngineOilTemperature', 'OilTemperature'],
  ['EngineFuelRate', 'FuelRate'],
  ...SENSORS.flatMap((n): [string, string][] => [
    [`OxygenSensor${n}Voltage`, `O2.Sensor${n}.Voltage`],
    [`OxygenSensor${n}ShortTermFuelTrim`, `O2.Sensor${n}.ShortTermFuelTrim`],
    [`OxygenSensor${n}Lambda`, `O2WR.Sensor${n}.Lambda`],
    [`OxygenSensor${n}WideVoltage`, `O2WR.Sensor${n}.Voltage`],
  ]),
]);

/** The name under which a value of a PID goes up. What VSS lacks stands in the same branch under its own name. */
export function obdPath(name: string): string {
  return `Vehicle.OBD.${VSS.get(name) ?? name}`;
}

/** The DBC and the map, with the values of these PIDs behind those that were there. */
export function withPids(dbc: Dbc, map: SignalMap, pids: readonly number[]): { dbc: Dbc; map: SignalMap } {
  const known = pids.flatMap((pid) => OBD_PIDS.get(pid) ?? []);
  const messages = known.map(messageOf);
  const taken = new Set(map.columns.map(({ name }) => name));
  const columns = known.flatMap((pid): MappedSignal[] =>
    pid.signals.map(({ name, unit }) => {
      const path = obdPath(name);
      // The DBC has its own signal of this name: that of the control unit is another one.
      return {
        name: taken.has(path) ? `${path}.Pid` : path,
        unit,
        message: messageName(pid.pid),
        dbcSignal: name,
      };
    }),
  );
  const all = [...map.columns, ...columns];
  return {
    dbc: { ...dbc, messages: [...dbc.messages, ...messages] },
    map: { set: signalSet(all), columns: all },
  };
}

/** The values of an answer as a frame of that message. */
export function pidFrame(pid: number, values: readonly ObdValue[], time: number): CanFrame {
  const doubles = Float64Array.from(values, ({ value }) => value);
  return { time, id: ID_FIRST + pid, extended: true, fd: true, data: new Uint8Array(doubles.buffer) };
}

function messageName(pid: number): string {
  return `OBD_${pid.toString(16).toUpperCase().padStart(2, '0')}`;
}

function messageOf({ pid, signals }: ObdPid): Message {
  return {
    name: messageName(pid),
    id: ID_FIRST + pid,
    extended: true,
    fd: true,
    length: BYTES * signals.length,
    cycleTimeMs: null,
    sender: null,
    comment: null,
    line: 0,
    signals: signals.map(({ name, unit }, i) => ({
      name,
      start: 8 * BYTES * i,
      length: 8 * BYTES,
      byteOrder: 'little',
      type: 'float',
      scale: 1,
      offset: 0,
      conversion: { kind: 'identity' },
      minimum: null,
      maximum: null,
      unit,
      comment: null,
      choices: null,
      selects: false,
      branch: null,
      line: 0,
    })),
  };
}
