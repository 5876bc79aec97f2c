import { compileDecoder } from '@cardan/agent';
import { Sampler } from '../../../agent/src/sampler.ts';
import { AGENT_DEFAULTS } from '../../../agent/src/config.ts';
import type { Car } from '../../../simulators/src/car.ts';
import { simulatedCar } from '../../../simulators/src/fleet.ts';

const { dbc, map } = simulatedCar();
const decoder = compileDecoder(dbc);
const columnOf = new Map(map.columns.map((of, column) => [`${of.message} ${of.dbcSignal}`, column]));
/** Per slot of the decoder the column of the telemetry, or -1. */
const columns = new Int32Array(decoder.values.length).fill(-1);
for (const { message, first } of decoder.messages)
  message.signals.forEach((signal, i) => {
    columns[first + i] = columnOf.get(`${message.name} ${signal.name}`) ?? -1;
  });

/** The columns of the rows: a signal set as the fleet's, and the DBC name of each. */
export const CAR_COLUMNS = { set: map.set, names: map.columns.map(({ dbcSignal }) => dbcSignal) };

/** Consecutive rows of one car; `values` is row-major. */
export interface CarRows {
  times: Float64Array;
  values: Float32Array;
}

/**
 * Drives a car on and gives its rows, as the agent in it would: frames decoded by the DBC, sampled once a second.
 * `onRow` may reuse nothing of the array that it is given, and ends the drive by returning false.
 */
export function driveCar(
  car: Car,
  fromMs: number,
  untilMs: number,
  onRow: (timeMs: number, values: Float32Array) => boolean,
): void {
  let driving = true;
  const sampler = new Sampler({
    signals: columnOf.size,
    periodMs: AGENT_DEFAULTS.rowPeriodMs,
    staleMs: AGENT_DEFAULTS.staleMs,
    onRow: (time, values) => {
      driving &&= onRow(time, values);
    },
  });
  for (let time = fromMs; time < untilMs && driving; time += CALL_MS)
    car.advance(Math.min(untilMs, time + CALL_MS), (frame) => {
      sampler.advance(frame.time);
      const message = decoder.find(frame.id, frame.extended);
      if (message === undefined) return;
      message.decode(frame.data);
      for (let slot = message.first; slot < message.first + message.message.signals.length; slot++)
        if (columns[slot]! >= 0 && decoder.present[slot] === 1)
          sampler.set(columns[slot]!, decoder.values[slot]!, frame.time);
    });
}

/** Simulated at a time: a drive that has ended goes on for no longer than this. */
const CALL_MS = 10_000;

/** The rows of a drive, kept. */
export function recordCar(car: Car, fromMs: number, untilMs: number): CarRows {
  const times: number[] = [];
  const rows: Float32Array[] = [];
  driveCar(car, fromMs, untilMs, (time, values) => {
    times.push(time);
    rows.push(values.slice());
    return true;
  });
  const values = new Float32Array(rows.length * columnOf.size);
  rows.forEach((row, i) => values.set(row, i * row.length));
  return { times: Float64Array.from(times), values };
}
