import type { GateFinding, RolloutGates, RolloutStage } from '@cardan/shared';
import type { EvidenceSums } from './evidence.ts';
import {
  differenceInterval,
  meanInterval,
  rateInterval,
  shareInterval,
  wilsonInterval,
} from './intervals.ts';

/**
 * Of all intervals, two-sided: each end by itself is 99 % sure, and a gate asks for one end only. It is looked again and
 * again, so a gate that fails must also do so several times.
 */
export const CONFIDENCE = 0.98;
/** Looks in succession, each on new evidence, that must fail before it counts. */
export const LOOKS = 3;
/** A p99 of fewer rows is that of a handful of them. */
const LATENCY_ROWS_MIN = 1000;
/** One bad computer in so many vehicles is not the model's fault. */
const HARD_STOPS_FORGIVEN = 0.001;

/** How the fleet stands to a stage. */
export interface Census {
  /** Vehicles that the rollout is for. */
  target: number;
  /** In the stage and reached; of these, silent ones. */
  reached: number;
  silent: number;
  /** Not reached, to compare with. */
  others: number;
  othersSilent: number;
}

/** Judges each gate of a stage, once. `isFirst`: it is the first stage of its rollout. */
export function judge(
  { gates, minimum }: Pick<RolloutStage, 'gates' | 'minimum'>,
  sums: EvidenceSums,
  census: Census,
  isFirst = false,
): GateFinding[] {
  if (census.target > 0 && census.reached === 0)
    return [
      // With the first stage left out, too, nothing would have been judged before it reaches many.
      isFirst
        ? finding('evidence', 'wait', { why: 'no vehicle is in this stage; give it a larger percent' })
        : finding('evidence', 'pass', { why: 'no vehicle is in this stage' }),
    ];
  return [
    enough(minimum, sums, census),
    failures(gates, sums, census),
    alarmed(gates, sums),
    alarms(gates, sums),
    score(gates, sums),
    latency(gates, sums),
    silence(gates, census),
  ].filter((found) => found !== undefined);
}

function enough(
  minimum: RolloutStage['minimum'],
  { vehicles, vehicleHours }: EvidenceSums,
  { reached }: Census,
): GateFinding {
  // A stage may have fewer vehicles than were asked for; then it takes all of them.
  const needed = Math.min(minimum.vehicles, Math.max(reached, 1));
  const is = vehicles >= needed && vehicleHours >= minimum.vehicleHours;
  return finding('evidence', is ? 'pass' : 'wait', {
    value: vehicleHours,
    bound: minimum.vehicleHours,
    why: `${vehicles} of ${needed} vehicles, ${round(vehicleHours)} of ${minimum.vehicleHours} vehicle-hours`,
  });
}

function failures(
  { failedShare }: RolloutGates,
  { failed, hardStopped, vehicles }: EvidenceSums,
  { reached }: Census,
): GateFinding | undefined {
  if (failedShare === null) return undefined;
  const n = Math.max(reached, vehicles, failed);
  if (hardStopped > Math.floor(HARD_STOPS_FORGIVEN * n))
    return finding('failures', 'fail', {
      hard: true,
      value: hardStopped / n,
      bound: failedShare,
      why: `${hardStopped} of ${n} vehicles have stopped it because it failed or gave no finite score`,
    });
  const { low, high } = n === 0 ? { low: 0, high: 1 } : shareInterval(failed, n, CONFIDENCE);
  // One vehicle is no share: of five it would be 20 %.
  const passes = failed <= Math.max(1, failedShare * n);
  return finding('failures', low > failedShare ? 'fail' : passes ? 'pass' : 'wait', {
    value: n === 0 ? 0 : failed / n,
    low,
    high,
    bound: failedShare,
    why: `${failed} of ${n} vehicles have stopped it or could not install it; at most ${percent(failedShare)} may`,
  });
}

/** Alarms on everything: one alarm that never ends is few alarms, so it is the vehicles that count. */
function alarmed(
  { alarmedShare }: RolloutGates,
  { alarmed, vehicles, championAlarmed, championVehicles }: EvidenceSums,
): GateFinding | undefined {
  if (alarmedShare === null) return undefined;
  const usual = championVehicles === 0 ? 0 : championAlarmed / championVehicles;
  const bound = alarmedShare + usual;
  const n = Math.max(vehicles, alarmed);
  if (n === 0) return finding('alarmed', 'wait', { bound, why: 'no vehicle has scored with it yet' });
  const { low, high } = shareInterval(alarmed, n, CONFIDENCE);
  const value = alarmed / n;
  return finding('alarmed', low > bound ? 'fail' : value <= bound ? 'pass' : 'wait', {
    hard: low > bound,
    value,
    low,
    high,
    bound,
    why: `its alarm stands in ${alarmed} of ${n} vehicles; at most ${percent(bound)} may`,
  });
}

/** Not worse by more than a margin: the question of non-inferiority, not whether there is any difference at all. */
function alarms(
  { alarmIncrease }: RolloutGates,
  { alarms, vehicleHours, championAlarms, championVehicleHours: championHours }: EvidenceSums,
): GateFinding | undefined {
  if (alarmIncrease === null) return undefined;
  const rate = (events: number, hours: number) => ({
    value: hours > 0 ? events / hours : 0,
    ...rateInterval(events, hours, CONFIDENCE),
  });
  const [subject, champion] = [rate(alarms, vehicleHours), rate(championAlarms, championHours)];
  const bound = Math.max(alarmIncrease.perHour, alarmIncrease.relative * champion.value);
  // Without cars to compare with, at the end of a rollout, the margin is over none at all.
  const { low, high } =
    championHours > 0 ? differenceInterval(subject, champion) : { low: subject.low, high: subject.high };
  return finding('alarms', low > bound ? 'fail' : high <= bound ? 'pass' : 'wait', {
    value: subject.value - champion.value,
    low,
    high,
    bound,
    why:
      `${alarms} alarms in ${round(vehicleHours)} vehicle-hours, the champion ${championAlarms} in ` +
      `${round(championHours)}: ${round(subject.value - champion.value)} an hour more, ` +
      `${CONFIDENCE * 100} % sure of ${round(low)} to ${round(high)}; at most ${round(bound)} may be`,
  });
}

function score({ scoreShift }: RolloutGates, { shift }: EvidenceSums): GateFinding | undefined {
  if (scoreShift === null) return undefined;
  const { n, mean } = shift;
  if (n < 2)
    return finding('score', 'wait', { bound: scoreShift, why: `scores of ${n} vehicles; 2 are needed` });
  const { low, high } = meanInterval(shift, CONFIDENCE);
  const fails = low > scoreShift || high < -scoreShift;
  return finding('score', fails ? 'fail' : Math.abs(mean) <= scoreShift ? 'pass' : 'wait', {
    value: mean,
    low,
    high,
    bound: scoreShift,
    why: `scores differ by ${round(mean)} of the threshold in ${n} vehicles; at most ${scoreShift} may be`,
  });
}

function latency(
  { latencyP99Us }: RolloutGates,
  { latency: { rows, p99 } }: EvidenceSums,
): GateFinding | undefined {
  if (latencyP99Us === null) return undefined;
  const verdict = rows < LATENCY_ROWS_MIN ? 'wait' : p99 > latencyP99Us ? 'fail' : 'pass';
  return finding('latency', verdict, {
    value: rows === 0 ? null : p99,
    bound: latencyP99Us,
    why: `99 % of ${rows} rows took at most ${rows === 0 ? '?' : Math.round(p99)} µs; ${latencyP99Us} may be`,
  });
}

function silence({ silentShare, silentMinutes }: RolloutGates, census: Census): GateFinding | undefined {
  if (silentShare === null) return undefined;
  const { reached, silent, others, othersSilent } = census;
  // At night nearly all cars are silent: only a comparison tells anything.
  if (others === 0 || reached === 0)
    return finding('silence', 'pass', { bound: silentShare, why: 'no other vehicles to compare with' });
  const [here, there] = [
    wilsonInterval(silent, reached, CONFIDENCE),
    wilsonInterval(othersSilent, others, CONFIDENCE),
  ];
  const { low, high } = differenceInterval(here, there);
  const value = here.value - there.value;
  return finding('silence', low > silentShare ? 'fail' : value <= silentShare ? 'pass' : 'wait', {
    value,
    low,
    high,
    bound: silentShare,
    why:
      `${silent} of ${reached} vehicles have been silent for ${silentMinutes} minutes, and ${othersSilent} of ` +
      `${others} others; at most ${percent(silentShare)} more may be`,
  });
}

/** One verdict of all findings, with a memory, so that noise does not flap it. */
export class Verdict {
  private failing = 0;
  private records = -1;

  /** `records`: how much evidence there is; a look at the same evidence again counts for nothing. */
  of(findings: readonly GateFinding[], records: number): 'pass' | 'fail' | 'wait' {
    const fails = findings.filter(({ verdict }) => verdict === 'fail');
    if (fails.some(({ hard }) => hard)) return 'fail';
    if (fails.length === 0) {
      this.failing = 0;
      return findings.every(({ verdict }) => verdict === 'pass') ? 'pass' : 'wait';
    }
    // Silence is told by no record.
    if (records !== this.records || fails.some(({ gate }) => gate === 'silence')) this.failing++;
    this.records = records;
    return this.failing >= LOOKS ? 'fail' : 'wait';
  }
}

function finding(
  gate: GateFinding['gate'],
  verdict: GateFinding['verdict'],
  rest: Partial<GateFinding> & { why: string },
): GateFinding {
  return { gate, verdict, hard: false, value: null, low: null, high: null, bound: null, ...rest };
}

function round(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function percent(share: number): string {
  return `${round(100 * share)} %`;
}
