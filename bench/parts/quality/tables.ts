import type { FaultTally, Tally } from './tally.ts';
import { GROWTH_S, type CarOutcome } from './trial.ts';

/** The parts of a car that can be blamed, and what the names of their signals begin with. */
const PARTS: readonly (readonly [string, readonly string[]])[] = [
  ['cooling', ['CoolantTemperature']],
  ['oil', ['OilTemperature']],
  ['air path', ['MassAirFlow', 'ManifoldPressure', 'ThrottlePosition', 'EngineLoad', 'FuelRate']],
  ['engine vibration', ['EngineVibration']],
  ['hubs', ['HubVibration']],
  ['tyres', ['TyrePressure']],
  ['battery', ['Battery']],
  ['speed, gear', ['VehicleSpeed', 'EngineSpeed', 'CurrentGear']],
  ['air temperatures', ['IntakeTemperature', 'AmbientTemperature']],
];

/** The tables of docs/quality.md, in Markdown. */
export function printTables(result: Tally, cars: readonly CarOutcome[]): void {
  const lines = [
    ...table(
      ['fault', 'in time', 'late', 'never', 'blamed right', 'delay: 10 %', '50 %', '90 %', '95 %'],
      result.faults.map((fault) => [
        fault.of,
        percent(fault.early, fault.cars),
        String(fault.late),
        String(fault.missed + fault.alarmedBefore),
        percent(fault.right, fault.early + fault.late),
        ...[fault.delayS.p10, fault.delayS.p50, fault.delayS.p90, fault.delayS.p95].map(minutes),
      ]),
    ),
    '',
    `False alarms: ${result.falseAlarms} in ${result.vehicleHours.toFixed(0)} vehicle-hours, ` +
      `${result.falseAlarmRate.toFixed(2)} per 100; with 95 % confidence at most ${result.falseAlarmRateMost.toFixed(2)}.`,
    '',
    ...table(
      ['fault', ...PARTS.map(([part]) => part), 'no alarm'],
      [
        ...result.faults.map(confusion),
        ['none (vehicle-hours)', ...healthy(cars), `${result.vehicleHours.toFixed(0)} h`],
      ],
    ),
    '',
    ...stuckSensors(cars),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

function confusion(fault: FaultTally): string[] {
  const counts = PARTS.map(([, begin]) =>
    [...fault.blamed].reduce((sum, [signal, cars]) => sum + (isOf(signal, begin) ? cars : 0), 0),
  );
  return [fault.of, ...counts.map(String), String(fault.missed + fault.alarmedBefore)];
}

function healthy(cars: readonly CarOutcome[]): string[] {
  const blamed = cars.flatMap(({ falseAlarms }) => falseAlarms.map(({ blamed }) => blamed));
  return PARTS.map(([, begin]) => String(blamed.filter((signal) => isOf(signal, begin)).length));
}

/** Per signal that stuck: in how many cars, found in time in how many, blamed right in how many. */
function stuckSensors(cars: readonly CarOutcome[]): string[] {
  const bySignal = new Map<string, { cars: number; early: number; right: number }>();
  for (const { faults } of cars)
    for (const { signal, alarmedBefore, delayS = Infinity, right } of faults) {
      if (signal === undefined) continue;
      const row = bySignal.get(signal) ?? { cars: 0, early: 0, right: 0 };
      row.cars++;
      if (!alarmedBefore && delayS <= GROWTH_S / 2) row.early++;
      if (!alarmedBefore && right === true) row.right++;
      bySignal.set(signal, row);
    }
  const rows = [...bySignal].sort(([a], [b]) => (a < b ? -1 : 1));
  return table(
    ['stuck signal', 'cars', 'in time', 'blamed right'],
    rows.map(([signal, { cars, early, right }]) => [signal, ...[cars, early, right].map(String)]),
  );
}

function isOf(signal: string, begin: readonly string[]): boolean {
  return begin.some((name) => signal.startsWith(name));
}

function table(head: string[], rows: string[][]): string[] {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '--:'))), ...rows.map(line)];
}

function percent(part: number, all: number): string {
  return all === 0 ? '–' : `${((100 * part) / all).toFixed(1)} %`;
}

function minutes(seconds: number): string {
  return seconds === Infinity ? 'never' : `${(seconds / 60).toFixed(1)} min`;
}
