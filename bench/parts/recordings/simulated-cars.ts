import { Car } from '../../../simulators/src/car.ts';
import { recordCar } from '../quality/car-rows.ts';
import { START } from '../quality/fleet-model.ts';
import { faultOf, type Case } from '../quality/trial.ts';
import type { LabelledRecording } from './labelled-recording.ts';

const MINUTE_MS = 60_000;
/** Sound driving before the fault, then its growth to moderate severity; rows of the second half of that count as failing. */
const SOUND_MINUTES = 30;
const GROWTH_MINUTES = 60;

/** Sound cars, as in `bench/quality.ts`. */
export function soundCars(count: number, rows: number): LabelledRecording[] {
  return Array.from({ length: count }, (_, i) => {
    const car = new Car({ id: `training-${i}`, seed: 1_000_000 + i, startTime: START });
    const drive = recordCar(car, START, START + rows * 1000);
    return { vehicle: car.id, ...drive, faulty: new Float64Array(drive.times.length) };
  });
}

/** Cars in each of which the same kind of fault grows, at other places and roads. */
export function failingCars(of: Case, count: number): LabelledRecording[] {
  const onset = START + SOUND_MINUTES * MINUTE_MS;
  const end = onset + GROWTH_MINUTES * MINUTE_MS;
  return Array.from({ length: count }, (_, seed) => {
    const car = new Car({ id: `${of} ${seed}`, seed, startTime: START });
    car.inject(faultOf(of, seed, onset));
    const drive = recordCar(car, START, end);
    const faulty = drive.times.map((time) => (time <= onset ? 0 : time > (onset + end) / 2 ? 1 : Number.NaN));
    return { vehicle: car.id, ...drive, faulty };
  });
}
