/** Rows kept per vehicle: ten minutes at 1 Hz. */
export const SERIES_ROWS_MAX = 600;
/** A series begins small: most of a large fleet is seen as tiles only. */
const SERIES_ROWS_MIN = 64;

/** Bytes that all series together may take. */
export class MemoryBudget {
  private left: number;

  constructor(bytes: number) {
    this.left = bytes;
  }

  take(bytes: number): boolean {
    if (bytes > this.left) return false;
    this.left -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.left += bytes;
  }
}

/** Rows from `from` up to `to` (exclusive), counted since the series began, in the order of their arrival. */
export interface SeriesPart {
  from: number;
  to: number;
  times: number[];
  /** One list per signal. null = not seen. */
  columns: (number | null)[][];
  scores: (number | null)[];
  /** Per row: number of the model that gave the score, as it was pushed. */
  models: number[];
}

/** The newest rows of one vehicle: times, signals, scores. A ring that grows while the budget allows it. */
export class Series {
  /** Rows ever pushed. */
  total: number;
  readonly signals: number;
  private readonly budget: MemoryBudget;
  private capacity = 0;
  /** First row since there is memory for it. */
  private begin: number;
  private times = new Float64Array(0);
  private values = new Float32Array(0);
  private scores = new Float32Array(0);
  private models = new Uint16Array(0);

  /** `start` is the number of the first row: a series that follows another one counts on from it. */
  constructor(signals: number, budget: MemoryBudget, start = 0) {
    this.signals = signals;
    this.budget = budget;
    this.total = this.begin = start;
  }

  /** Index of the oldest row that is still there. */
  get first(): number {
    return Math.max(this.begin, this.total - this.capacity);
  }

  get bytes(): number {
    return this.bytesOf(this.capacity);
  }

  /** Takes the memory for the first rows; false when the budget has none left. */
  reserve(): boolean {
    if (this.capacity > 0) return true;
    this.begin = this.total;
    return this.grow(SERIES_ROWS_MIN);
  }

  /** Gives the memory back. Rows go, their numbers stay taken. */
  release(): void {
    this.budget.give(this.bytes);
    this.resize(0);
    this.begin = this.total;
  }

  /** Adds a row: `values` from `offset` on, one per signal. Without memory it is only counted. */
  push(time: number, score: number, model: number, values: Float32Array, offset: number): void {
    const full = this.total - this.first === this.capacity;
    if (full && this.capacity > 0 && this.capacity < SERIES_ROWS_MAX)
      this.grow(Math.min(SERIES_ROWS_MAX, this.capacity * 2));
    const row = this.total++;
    if (this.capacity === 0) {
      this.begin = this.total;
      return;
    }
    const slot = row % this.capacity;
    this.times[slot] = time;
    this.scores[slot] = score;
    this.models[slot] = model;
    this.values.set(values.subarray(offset, offset + this.signals), slot * this.signals);
  }

  /** Score of a row, NaN where it is gone or was not scored. */
  scoreAt(row: number): number {
    return row < this.first || row >= this.total ? Number.NaN : this.scores[row % this.capacity]!;
  }

  /** The rows from number `since` on that are still there. */
  part(since = 0): SeriesPart {
    const from = since > this.total ? this.first : Math.max(since, this.first);
    const part: SeriesPart = {
      from,
      to: this.total,
      times: [],
      columns: Array.from({ length: this.signals }, () => []),
      scores: [],
      models: [],
    };
    for (let row = from; row < this.total; row++) {
      const slot = row % this.capacity;
      part.times.push(this.times[slot]!);
      part.scores.push(jsonNumber(this.scores[slot]!));
      part.models.push(this.models[slot]!);
      for (const [signal, column] of part.columns.entries())
        column.push(jsonNumber(this.values[slot * this.signals + signal]!));
    }
    return part;
  }

  private grow(capacity: number): boolean {
    if (!this.budget.take(this.bytesOf(capacity) - this.bytes)) return false;
    this.resize(capacity);
    return true;
  }

  private resize(capacity: number): void {
    const { times, values, scores, models, signals, capacity: before } = this;
    const first = this.first;
    this.times = new Float64Array(capacity);
    this.values = new Float32Array(capacity * signals);
    this.scores = new Float32Array(capacity).fill(Number.NaN);
    this.models = new Uint16Array(capacity);
    for (let row = first; row < this.total && capacity > 0; row++) {
      const [from, to] = [row % before, row % capacity];
      this.times[to] = times[from]!;
      this.scores[to] = scores[from]!;
      this.models[to] = models[from]!;
      this.values.set(values.subarray(from * signals, (from + 1) * signals), to * signals);
    }
    this.begin = first;
    this.capacity = capacity;
  }

  private bytesOf(capacity: number): number {
    return capacity * (8 + 4 + 2 + 4 * this.signals);
  }
}

/** JSON has no NaN. Six digits are more than a float32 has in a chart, and keep the answer short. */
export function jsonNumber(value: number): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
}
