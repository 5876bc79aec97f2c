import { restore, robustScale, standardise, type Scale } from './robust-scale.ts';
import { SequentialKMeans, type SequentialKMeansState } from './sequential-k-means.ts';

export interface DrivingStatesOptions {
  /** Rows of one vehicle whose means are one window: a minute at 1 Hz. */
  windowRows: number;
  /** A longer gap between two rows, or a step back in time, begins a new window. Milliseconds. */
  gapMs: number;
  /** Windows of all vehicles that the scale and the first centers are made of. */
  firstWindows: number;
  states: number;
  /** Windows of its own after which half of what a state has learned is forgotten. */
  halfLifeWindows: number;
  /** Windows of a vehicle after which a window counts half in its shares. */
  shareHalfLifeWindows: number;
  seed: number;
}

export const DRIVING_STATES_DEFAULTS: DrivingStatesOptions = {
  windowRows: 60,
  gapMs: 10_000,
  firstWindows: 40,
  states: 4,
  halfLifeWindows: 1000,
  shareHalfLifeWindows: 500,
  seed: 1,
};

/** What is known of a vehicle. Plain JSON. */
export interface VehicleWindows {
  /** Of the window that is being filled, per column: sum and number of the values that were seen. */
  sums: number[];
  seen: number[];
  rows: number;
  /** Time of the newest row. */
  time: number;
  /** Windows per state, older ones counted less; empty while there are no states. */
  shares: number[];
}

/** Plain JSON. */
export interface DrivingStatesState {
  options: DrivingStatesOptions;
  width: number;
  /** The first windows, until there are enough; their values (null: not seen) and whose they are. */
  waiting: { vehicle: string; means: (number | null)[] }[];
  scale: Scale | null;
  kMeans: SequentialKMeansState | null;
}

/**
 * The driving states of some vehicles, without labels: windows of rows, clustered by sequential k-means. What there is
 * to tell apart (standing, town, motorway …) is what the signals say; the states have numbers and centers, no names.
 *
 * Scale and first centers are made of the first windows and stay: centers of today compare with those of yesterday.
 * They are of the log alone, not of a model that may be published meanwhile, so the same records give the same bits.
 */
export class DrivingStates {
  readonly options: DrivingStatesOptions;
  readonly width: number;
  readonly vehicles = new Map<string, VehicleWindows>();
  /** Vehicles that have changed since the last look. */
  readonly touched = new Set<string>();
  private waiting: { vehicle: string; means: Float64Array }[] = [];
  private scale: Scale | null = null;
  private kMeans: SequentialKMeans | null = null;
  private readonly shareDecay: number;

  /** `width` is the number of signals. Throws RangeError. */
  constructor(width: number, options: Partial<DrivingStatesOptions> = {}) {
    this.options = { ...DRIVING_STATES_DEFAULTS, ...options };
    this.width = width;
    this.shareDecay = 2 ** (-1 / this.options.shareHalfLifeWindows);
  }

  /** Goes on from a state. Throws RangeError when it is not one. */
  static from(
    state: DrivingStatesState,
    vehicles: Iterable<readonly [string, VehicleWindows]>,
  ): DrivingStates {
    const states = new DrivingStates(state.width, state.options);
    states.waiting = state.waiting.map(({ vehicle, means }) => ({
      vehicle,
      means: Float64Array.from(means, (mean) => mean ?? Number.NaN),
    }));
    states.scale = state.scale;
    states.kMeans = state.kMeans === null ? null : SequentialKMeans.from(state.kMeans);
    for (const [id, vehicle] of vehicles) states.vehicles.set(id, structuredClone(vehicle));
    return states;
  }

  /** Learns the rows `from` … `to` of a block of one vehicle. Returns the states of the windows that became full. */
  learn(
    id: string,
    times: Float64Array,
    values: Float32Array,
    from = 0,
    to: number = times.length,
  ): number[] {
    const { width } = this;
    const { windowRows, gapMs } = this.options;
    if (values.length < to * width)
      throw new RangeError(`${values.length} values are no ${to} rows of ${width} signals.`);
    const vehicle = this.vehicleOf(id);
    const full: number[] = [];
    for (let row = from; row < to; row++) {
      const time = times[row]!;
      if (time < vehicle.time || time > vehicle.time + gapMs) clearWindow(vehicle);
      vehicle.time = time;
      for (let i = 0, at = row * width; i < width; i++, at++) {
        const value = values[at]!;
        if (value - value !== 0) continue;
        vehicle.sums[i]! += value;
        vehicle.seen[i]!++;
      }
      if (++vehicle.rows < windowRows) continue;
      // Not seen is 0 / 0.
      const means = Float64Array.from(vehicle.sums, (sum, i) => sum / vehicle.seen[i]!);
      clearWindow(vehicle);
      full.push(this.window(id, vehicle, means));
    }
    if (to > from) this.touched.add(id);
    return full;
  }

  /** Centers in the signals' own units, one after the other, and the windows that each stands for. */
  get clusters(): { centers: Float64Array[]; weights: Float64Array; scale: Scale } | undefined {
    if (this.kMeans === null || this.scale === null) return undefined;
    const { scale, width } = this;
    const { centers, weights } = this.kMeans.clusters;
    const rows = Array.from(weights, (_, c) => restore(centers.subarray(c * width, (c + 1) * width), scale));
    return { centers: rows, weights, scale };
  }

  /** Without the vehicles, which are saved one by one. */
  state(): DrivingStatesState {
    return {
      options: this.options,
      width: this.width,
      waiting: this.waiting.map(({ vehicle, means }) => ({
        vehicle,
        means: Array.from(means, (mean) => (Number.isNaN(mean) ? null : mean)),
      })),
      scale: this.scale,
      kMeans: this.kMeans?.state() ?? null,
    };
  }

  private vehicleOf(id: string): VehicleWindows {
    let vehicle = this.vehicles.get(id);
    if (vehicle === undefined) {
      const zeros = () => new Array<number>(this.width).fill(0);
      vehicle = { sums: zeros(), seen: zeros(), rows: 0, time: 0, shares: [] };
      this.vehicles.set(id, vehicle);
    }
    return vehicle;
  }

  /** −1 while there are no states. */
  private window(id: string, vehicle: VehicleWindows, means: Float64Array): number {
    if (this.scale !== null && this.kMeans !== null) {
      const state = this.kMeans.learn(standardise(means, this.scale));
      this.credit(vehicle, state);
      return state;
    }
    this.waiting.push({ vehicle: id, means });
    if (this.waiting.length === this.options.firstWindows) this.begin();
    return -1;
  }

  private begin(): void {
    const { waiting, width } = this;
    const { states, halfLifeWindows, firstWindows, seed } = this.options;
    const rows = new Float64Array(firstWindows * width);
    for (const [i, { means }] of waiting.entries()) rows.set(means, i * width);
    const scale = robustScale(
      rows,
      width,
      waiting.map(({ vehicle }) => vehicle),
    );
    const kMeans = new SequentialKMeans({
      width,
      clusters: states,
      halfLife: halfLifeWindows,
      seedRows: firstWindows,
      seed,
    });
    const standard = waiting.map(({ means }) => standardise(means, scale));
    for (const row of standard) kMeans.learn(row);
    for (const [i, { vehicle }] of waiting.entries()) {
      this.credit(this.vehicleOf(vehicle), kMeans.assign(standard[i]!));
      this.touched.add(vehicle);
    }
    this.scale = scale;
    this.kMeans = kMeans;
    this.waiting = [];
  }

  private credit(vehicle: VehicleWindows, state: number): void {
    if (vehicle.shares.length === 0) vehicle.shares = new Array<number>(this.options.states).fill(0);
    vehicle.shares = vehicle.shares.map((share, i) => share * this.shareDecay + (i === state ? 1 : 0));
  }
}

function clearWindow(vehicle: VehicleWindows): void {
  vehicle.sums.fill(0);
  vehicle.seen.fill(0);
  vehicle.rows = 0;
}
