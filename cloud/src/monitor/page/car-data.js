/** Rows kept of the car that is shown, as many as the monitor keeps. */
const ROWS_MAX = 600;
/** A hole this many times longer than the usual step is drawn as a gap. */
const GAP_STEPS = 6;
const GAP_MIN_MS = 5000;

/** The series of one car, put together from the monitor's answers. */
export class CarData {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    /** Newest answer of `/api/vehicles/:id`, apart from its series. */
    this.facts = null;
    this.#clear();
  }

  #clear() {
    this.rowsTo = 0;
    this.cloudTo = 0;
    this.signalSet = null;
    /** @type {number[]} */ this.times = [];
    /** @type {(number | null)[][]} */ this.columns = [];
    /** @type {(number | null)[]} */ this.scores = [];
    /** @type {(number | null)[]} */ this.thresholds = [];
    /** @type {Map<number, number | null>} */ this.cloud = new Map();
  }

  /** What is still missing, as a query. */
  get query() {
    return `rows=${this.rowsTo}&cloud=${this.cloudTo}`;
  }

  /** Takes in an answer. @param {any} answer @returns {boolean} whether the signals are others now */
  take(answer) {
    const { rows, cloud, signalSet } = answer;
    this.facts = answer;
    const reset = rows.from !== this.rowsTo || (signalSet?.id ?? null) !== (this.signalSet?.id ?? null);
    const renamed = reset || JSON.stringify(signalSet) !== JSON.stringify(this.signalSet);
    if (reset) this.#clear();
    this.signalSet = signalSet;
    this.rowsTo = rows.to;
    this.cloudTo = cloud.to;
    if (reset) this.columns = rows.columns.map(() => []);
    append(this.times, rows.times);
    append(this.scores, rows.scores);
    append(this.thresholds, rows.thresholds);
    rows.columns.forEach((column, i) => append(this.columns[i], column));
    cloud.times.forEach((time, i) => this.cloud.set(time, cloud.scores[i]));
    while (this.cloud.size > ROWS_MAX) this.cloud.delete(this.cloud.keys().next().value);
    return renamed;
  }

  /**
   * The rows by time, with a row of nothing in each gap.
   * @returns {{ times: number[], pick: (column: (number | null)[]) => (number | null)[] }}
   */
  inOrder() {
    const { times } = this;
    const order = times.map((_, i) => i);
    // Rows that come late stand at the end.
    if (times.some((time, i) => i > 0 && time < times[i - 1])) order.sort((a, b) => times[a] - times[b]);
    const steps = order.slice(1).map((at, i) => times[at] - times[order[i]]);
    const usual = [...steps].sort((a, b) => a - b)[steps.length >> 1] ?? 0;
    const gap = Math.max(GAP_MIN_MS, usual * GAP_STEPS);
    const rows = [];
    const shownTimes = [];
    order.forEach((at, i) => {
      if (i > 0 && steps[i - 1] > gap) {
        rows.push(-1);
        shownTimes.push((times[at] + times[order[i - 1]]) / 2);
      }
      rows.push(at);
      shownTimes.push(times[at]);
    });
    return { times: shownTimes, pick: (column) => rows.map((row) => (row < 0 ? null : column[row])) };
  }
}

function append(list, more) {
  list.push(...more);
  if (list.length > ROWS_MAX) list.splice(0, list.length - ROWS_MAX);
}
