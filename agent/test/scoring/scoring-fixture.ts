import { DenseExecutor, loadModel, type DenseLayer, type Model, type VehicleShadow } from '@cardan/shared';
import { modelFiles } from '../../../shared/test/model/model-fixture.ts';
import {
  OnBoardScoring,
  type AlarmChange,
  type OnBoardScoringOptions,
  type StoppedModel,
} from '../../src/scoring/on-board-scoring.ts';
import type { LoadedModel } from '../../src/scoring/running-model.ts';

/** Rows until the first score of the models below: windows of 4 and 6. */
export const WARM_UP_ROWS = 9;

/** A version of a real small model; its address is its version. */
export function version(name: string, change: (model: Model) => Partial<Model> = () => ({})): LoadedModel {
  const model = loadModel(modelFiles());
  // Spreads with which the rows of `drive` stay below the threshold, and what is far off goes over it.
  model.manifest.features.clip = 20;
  model.manifest.score.residualScale = [2, 3, 1, 2];
  Object.assign(model.manifest.alarm, { threshold: 3, clearBelow: 2.5 });
  return { ref: { name: 'test', version: name }, address: name, model: { ...model, ...change(model) } };
}

/** Layers whose weights are finite each, and whose outputs are not: no check of the file finds that out. */
export function overflowingLayers(inputs: number): DenseLayer[] {
  const sizes = [inputs, 1, 1, 1, 1, 1, 1, 1, 1, 1, inputs];
  return sizes.slice(1).map((units, i) => ({
    name: `dense_${i + 1}`,
    inputs: sizes[i]!,
    units,
    activation: 'linear',
    kernel: new Float32Array(sizes[i]! * units).fill(3e38),
    bias: new Float32Array(units).fill(1),
  }));
}

/** Scoring with everything that it says recorded, and a clock that stands still but for what a network takes. */
export class Recorded {
  readonly alarms: (AlarmChange & { time: number })[] = [];
  readonly shadows: (VehicleShadow & { time: number })[] = [];
  readonly stopped: StoppedModel[] = [];
  readonly good: string[] = [];
  readonly scoring: OnBoardScoring;
  /** The clock, microseconds. */
  us = 0;

  constructor(options: Partial<OnBoardScoringOptions> = {}) {
    this.scoring = new OnBoardScoring({
      budgetUs: 1000,
      shadowPeriodMs: 60_000,
      // A model is good with its first score.
      goodAfterMs: 0,
      onCalm: () => undefined,
      clockUs: () => this.us,
      onAlarm: (change, time) => this.alarms.push({ ...change, time }),
      onShadow: (statistics, time) => this.shadows.push({ ...statistics, time }),
      onStopped: (stopped) => this.stopped.push(stopped),
      onGood: (address) => this.good.push(address),
      ...options,
    });
  }

  /** Scores rows; NaN where no model scored. */
  drive(
    { times, values }: { times: Float64Array; values: Float32Array },
    from = 0,
    to = times.length,
  ): number[] {
    const signals = values.length / times.length;
    return Array.from({ length: to - from }, (_, i) => {
      const row = from + i;
      return (
        this.scoring.push(times[row]!, values.subarray(row * signals, (row + 1) * signals)) ?? Number.NaN
      );
    });
  }
}

/** The same network, with something that happens at each of its rows, counted from 1. */
export function withEachRow(happens: (row: number) => void): (model: Model) => Partial<Model> {
  return ({ layers }) => {
    const executor = new DenseExecutor(layers);
    let row = 0;
    const run = (input: ArrayLike<number>) => {
      happens(++row);
      return executor.run(input);
    };
    return { network: { inputs: executor.inputs, outputs: executor.outputs, run } };
  };
}

/** A network that fails at its n-th row, as one whose memory runs out does. */
export function failingAt(n: number): (model: Model) => Partial<Model> {
  return withEachRow((row) => {
    if (row === n) throw new RangeError('out of memory');
  });
}
