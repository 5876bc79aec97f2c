import {
  Alarm,
  QuantileSketch,
  Scorer,
  SequenceDeduplicator,
  type HeldBack,
  type LoopEvidence,
  type LoopFigures,
  type LoopFinding,
  type Model,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { isHeldBack } from '../trainer/held-back.ts';
import { FORETELL_HOURS } from '../trainer/judge-by-repairs.ts';
import { readOptions, type OffsetRanges } from '../trainer/log-span.ts';
import type { Repair } from '../trainer/repairs.ts';
import { telemetryOf } from '../telemetry-record.ts';
import { binomialTail } from './binomial.ts';
import { HELD_BACK_MIN } from './decide.ts';
import { round } from './drift.ts';

/** Held-back vehicles must have driven so long in all. */
export const HOURS_MIN = 1;
/** Rows that are scored at most: a minute of one core. */
const ROWS_MAX = 3_000_000;
/** Rows of a vehicle on which changes are planted, and vehicles of which some are. */
const PLANTED_ROWS = 300;
const PLANTED_VEHICLES = 8;
/** How far a signal is moved, in spreads; and most signals that are. */
const PLANTED_SPREADS = 6;
const PLANTED_SIGNALS = 64;
/** By chance alone a candidate of the same quality is called worse once in 20 times. */
const CHANCE = 0.05;
/** Part of the rows that may lie over the threshold anyway. */
const OVER_THRESHOLD = 0.01;
/** A level that is no trouble, in thresholds; and what two models of the same quality differ in. */
const LEVEL = 0.8;
const LEVEL_MARGIN = 0.05;
const PLANTED_MARGIN = 0.1;
const HOUR_MS = 3_600_000;

export interface JudgeQuery {
  champion: Model;
  candidate: Model;
  heldBack: HeldBack;
  /** Pinned. */
  offsets: OffsetRanges;
  /** Only rows from here on, milliseconds since 1970. */
  from: number;
  repairs: ReadonlyMap<string, readonly Repair[]>;
}

export interface Judgement {
  verdict: 'good' | 'worse' | 'not enough evidence';
  findings: LoopFinding[];
  evidence: LoopEvidence;
}

/** Scores the rows of the held-back vehicles with both models, as cars would, and compares them. */
export async function judgeCandidate(log: EventLog, query: JudgeQuery): Promise<Judgement> {
  const evidence = await gather(log, query);
  const findings = [...judgeFigures(evidence)];
  const { vehicles, vehicleHours } = evidence;
  if (vehicles < HELD_BACK_MIN || vehicleHours < HOURS_MIN)
    return { verdict: 'not enough evidence', findings, evidence };
  const isWorse = findings.some(({ what, value, bound }) =>
    AT_LEAST.has(what) ? value < bound : value > bound,
  );
  return { verdict: isWorse ? 'worse' : 'good', findings, evidence };
}

/** Findings whose value must not be below its bound; of all others it must not be above. */
const AT_LEAST: ReadonlySet<string> = new Set([
  'repairs foretold',
  'planted changes found',
  'evidence, hours',
]);

function* judgeFigures(evidence: LoopEvidence): Generator<LoopFinding> {
  const { champion: a, candidate: b, vehicles, vehicleHours, repairs } = evidence;
  yield {
    what: 'evidence, hours',
    value: round(vehicleHours),
    bound: HOURS_MIN,
    why: `${vehicles} vehicles that were not in the training drove ${round(vehicleHours)} hours`,
  };
  // On the same rows each false alarm is as likely of the one as of the other when both are equally good.
  const tail = binomialTail(b.falseAlarms, a.falseAlarms + b.falseAlarms, 0.5);
  yield {
    what: 'false alarms, certainty that they are more',
    value: round(b.falseAlarms > a.falseAlarms ? 1 - tail : 0),
    bound: 1 - CHANCE,
    why: `${b.falseAlarms} false alarms, the champion ${a.falseAlarms}; if both were equally good, so many would come with probability ${round(tail)}`,
  };
  yield {
    what: 'rows over the threshold',
    value: round(b.overThreshold),
    bound: round(Math.max(a.overThreshold, OVER_THRESHOLD)),
    why: `${round(100 * b.overThreshold)} % of the rows, the champion ${round(100 * a.overThreshold)} %`,
  };
  yield {
    what: 'level, thresholds',
    value: round(b.p95),
    bound: round(Math.max(a.p95, LEVEL) + LEVEL_MARGIN),
    why: `95 % of its scores are below ${round(b.p95)} thresholds, of the champion below ${round(a.p95)}`,
  };
  yield {
    what: 'planted changes found',
    value: round(b.planted),
    bound: round(Math.max(0, a.planted - PLANTED_MARGIN)),
    why: `one signal moved by ${PLANTED_SPREADS} spreads is found in ${round(100 * b.planted)} % of the tries, by the champion in ${round(100 * a.planted)} %`,
  };
  if (repairs > 0)
    yield {
      what: 'repairs foretold',
      value: b.foretold,
      bound: a.foretold,
      why: `${b.foretold} of ${repairs} repairs, the champion ${a.foretold}`,
    };
}

async function gather(log: EventLog, query: JudgeQuery): Promise<LoopEvidence> {
  const { champion, candidate, heldBack, offsets, repairs } = query;
  const signalSet = champion.manifest.signalSet.id;
  const duplicates = new SequenceDeduplicator();
  const vehicles = new Map<string, { a: Judged; b: Judged; last: number; rows: PlantedRows }>();
  const planted: PlantedRows[] = [];
  let [rows, ms] = [0, 0];
  const sketches = [new QuantileSketch(), new QuantileSketch()] as const;
  const over = [0, 0];
  for await (const { records } of log.read('telemetry', readOptions(offsets)))
    for (const { key, value } of records) {
      if (key === null || value === null || rows >= ROWS_MAX || !isHeldBack(key, heldBack)) continue;
      const batch = telemetryOf(value, () => undefined);
      if (batch?.signalSet !== signalSet || batch.campaign !== undefined) continue;
      const signals = batch.values.length / batch.times.length;
      for (const [first, end] of duplicates.fresh(key, batch.epoch, batch.firstSequence, batch.times.length))
        for (let row = first; row < end; row++) {
          const time = batch.times[row]!;
          if (time < query.from) continue;
          let vehicle = vehicles.get(key);
          if (vehicle === undefined) {
            const own = repairs.get(key) ?? [];
            const rows: PlantedRows = { times: [], values: [] };
            vehicle = { a: new Judged(champion, own), b: new Judged(candidate, own), last: time, rows };
            vehicles.set(key, vehicle);
            if (planted.length < PLANTED_VEHICLES) planted.push(rows);
          }
          const { rows: kept } = vehicle;
          if (kept.times.length < PLANTED_ROWS && planted.includes(kept)) {
            kept.times.push(time);
            kept.values.push(batch.values.slice(row * signals, (row + 1) * signals));
          }
          const scoreA = vehicle.a.push(time, batch.values, row * signals);
          const scoreB = vehicle.b.push(time, batch.values, row * signals);
          const since = time - vehicle.last;
          vehicle.last = time;
          if (Number.isNaN(scoreA) || Number.isNaN(scoreB)) continue;
          rows++;
          if (since > 0 && since <= champion.manifest.features.gapMs) ms += since;
          sketches[0].push(scoreA);
          sketches[1].push(scoreB);
          if (scoreA > champion.manifest.alarm.threshold) over[0]!++;
          if (scoreB > candidate.manifest.alarm.threshold) over[1]!++;
        }
    }
  const all = [...vehicles.values()];
  const figures = (model: Model, i: 0 | 1, of: (vehicle: (typeof all)[number]) => Judged): LoopFigures => ({
    falseAlarms: all.reduce((sum, vehicle) => sum + of(vehicle).falseAlarms, 0),
    foretold: all.reduce((sum, vehicle) => sum + of(vehicle).foretold.size, 0),
    overThreshold: rows === 0 ? 0 : over[i]! / rows,
    p95: rows === 0 ? 0 : sketches[i].quantile(0.95) / model.manifest.alarm.threshold,
    planted: partFound(model, planted),
  });
  return {
    vehicles: all.length,
    vehicleHours: ms / HOUR_MS,
    rows,
    offsets,
    champion: figures(champion, 0, ({ a }) => a),
    candidate: figures(candidate, 1, ({ b }) => b),
    repairs: all.reduce((sum, { a }) => sum + a.drove.size, 0),
  };
}

interface PlantedRows {
  times: number[];
  values: Float32Array[];
}

/** Moves one signal after the other in the second half of the rows, and counts where the model's score comes over. */
function partFound(model: Model, vehicles: readonly PlantedRows[]): number {
  const { features, alarm } = model.manifest;
  const spreads = new Map<number, number>();
  for (const { signal, statistic, scale } of features.inputs)
    if (statistic === 'mean' && spreads.size < PLANTED_SIGNALS) spreads.set(signal, scale);
  let [found, tries] = [0, 0];
  for (const { times, values } of vehicles) {
    if (times.length < PLANTED_ROWS) continue;
    for (const [signal, scale] of spreads) {
      const scorer = new Scorer(model);
      let isOver = false;
      times.forEach((time, i) => {
        const row = values[i]!.slice();
        const isMoved = i >= times.length / 2;
        if (isMoved) row[signal]! += PLANTED_SPREADS * scale;
        const score = scorer.push(time, row);
        if (isMoved && score > alarm.threshold) isOver = true;
      });
      tries++;
      if (isOver) found++;
    }
  }
  return tries === 0 ? 0 : found / tries;
}

/** One vehicle under one model, as its own agent would see it. */
class Judged {
  falseAlarms = 0;
  /** Repairs before which it drove, and those before which an alarm was raised. */
  readonly drove = new Set<number>();
  readonly foretold = new Set<number>();
  private readonly repairs: readonly Repair[];
  private readonly scorer: Scorer;
  private readonly alarm: Alarm;

  constructor(model: Model, repairs: readonly Repair[]) {
    this.repairs = repairs;
    this.scorer = new Scorer(model);
    this.alarm = new Alarm(model.manifest.alarm);
  }

  push(time: number, values: Float32Array, offset: number): number {
    const score = this.scorer.push(time, values, offset);
    const isRaised = this.alarm.push(score) === 'raised';
    let isFalse = true;
    this.repairs.forEach((repair, i) => {
      if (time > repair.time || time < repair.time - FORETELL_HOURS * HOUR_MS) return;
      isFalse = false;
      this.drove.add(i);
      if (isRaised) this.foretold.add(i);
    });
    if (isRaised && isFalse) this.falseAlarms++;
    return score;
  }
}
