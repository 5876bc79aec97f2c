import {
  isEvent,
  type CloudEvent,
  type ModelRef,
  Moments,
  type MomentsData,
  QuantileSketch,
  type QuantileSketchData,
  type RolloutStage,
  type RolloutSubject,
  SequenceDeduplicator,
  type StageEvidence,
  type VehicleReported,
  type VehicleShadow,
} from '@cardan/shared';

/** A car says what it has every half minute while it runs; what is longer apart was no driving. */
const REPORT_GAP_MS_MAX = 15 * 60_000;
const HOUR_MS = 3_600_000;
/** Alarms of a car that wait for the shadow period in which they fall. */
const ALARMS_WAITING_MAX = 100;
/** Stopped by itself, whatever the computer does: worse than a row that takes long. */
const HARD_STOPS = new Set(['MODEL_THREW', 'MODEL_NOT_FINITE', 'MODEL_CRASH_LOOP', 'SELF_TEST_FAILED']);
/** What is wrong with the way to the car, and not with what was to come on it. */
const NETWORK_ERRORS = new Set(['HTTP_UNREACHABLE', 'HTTP_STATUS', 'MQTT_UNREACHABLE', 'MQTT_REFUSED']);

/** Sums over the vehicles of a stage, as the gates need them. */
export interface EvidenceSums extends Omit<StageEvidence, 'reached'> {
  /** Vehicles that have stopped the subject, for a reason that has nothing to do with the computer. */
  hardStopped: number;
  /** Vehicles that have stopped it for any reason, or could not install it. */
  failed: number;
  /** Vehicles in which most scores are over the threshold (shadow), or whose alarm stands. */
  alarmed: number;
  championAlarmed: number;
  /** Candidate's minus champion's score, one value a vehicle: rows of one car say the same thing again and again. */
  shift: MomentsData;
  latency: { rows: number; p99: number };
}

export interface EvidenceOptions {
  subject: RolloutSubject;
  champion: ModelRef | null;
  kind: RolloutStage['kind'];
  /** Alarm threshold of the subject; undefined for a campaign. */
  threshold: number | undefined;
  /** Whether the rollout is for this vehicle; asked once for each. */
  isTarget: (vehicle: string) => boolean;
}

interface VehicleEvidence {
  isTarget: boolean;
  /** Its last report. */
  time: number;
  rows: number | undefined;
  has: 'subject' | 'champion' | undefined;
  alarmStands: boolean;
  /** Hours with the subject, and with the champion. */
  hours: number;
  championHours: number;
  hardStopped: boolean;
  stopped: boolean;
  failed: boolean;
  /** Scores of the candidate, those over its threshold, and differences. */
  scores: number;
  over: number;
  difference: Moments;
  /** Times of champion's alarms that no shadow period has taken yet. */
  waiting: number[];
}

/**
 * What the cars have reported since a stage began: a projection of `vehicle-events`, from the offsets on which the event
 * `stage-begun` names. Reading them once more gives the same.
 *
 * In the shadow the pairs are of the same rows of the same car: the candidate's alarms are in the statistics, and the
 * champion's are those that this car raised in the period. In groups the cars that have the subject are compared with
 * those that still have the champion, per hour of driving; a car drives while its reports follow each other and its
 * rows grow.
 */
export class Evidence {
  private readonly options: EvidenceOptions;
  private readonly vehicles = new Map<string, VehicleEvidence>();
  private readonly copies = new SequenceDeduplicator();
  private readonly latency = new QuantileSketch();
  private alarms = 0;
  private championAlarms = 0;
  private records = 0;

  constructor(options: EvidenceOptions) {
    this.options = options;
  }

  take(vehicle: string, event: CloudEvent): void {
    const { outboxepoch, sequence } = event;
    if (outboxepoch !== undefined && sequence !== undefined)
      if (this.copies.fresh(vehicle, Number(outboxepoch), Number(sequence), 1).length === 0) return;
    if (isEvent(event, 'io.cardan.vehicle.reported')) this.reported(vehicle, event.data);
    else if (isEvent(event, 'io.cardan.vehicle.shadow')) this.shadow(vehicle, event.data);
    else if (isEvent(event, 'io.cardan.vehicle.anomaly')) {
      if (event.data.state === 'raised') this.alarm(vehicle, event.data.model, Date.parse(event.time));
    } else if (isEvent(event, 'io.cardan.vehicle.model-stopped')) {
      if (!this.isSubject(event.data.model)) return;
      const seen = this.seen(vehicle);
      seen.stopped = true;
      if (HARD_STOPS.has(event.data.code)) seen.hardStopped = true;
    } else return;
    this.records++;
  }

  sums(): EvidenceSums {
    const { kind, threshold = Number.NaN } = this.options;
    const sums = {
      vehicles: 0,
      vehicleHours: 0,
      championVehicles: 0,
      championVehicleHours: 0,
      hardStopped: 0,
      failed: 0,
      alarmed: 0,
      championAlarmed: 0,
    };
    const shift = new Moments();
    for (const seen of this.vehicles.values()) {
      const { has, hours, championHours, scores, over, difference, alarmStands } = seen;
      if (has === 'subject' || hours > 0) {
        sums.vehicles++;
        sums.vehicleHours += hours;
      }
      // In the shadow both score the same rows.
      if (kind === 'shadow' ? hours > 0 : seen.isTarget && (has === 'champion' || championHours > 0)) {
        sums.championVehicles++;
        sums.championVehicleHours += kind === 'shadow' ? hours : championHours;
      }
      if (seen.hardStopped) sums.hardStopped++;
      if (seen.stopped || seen.failed) sums.failed++;
      if (kind === 'shadow') {
        if (over > scores / 2) sums.alarmed++;
        if (alarmStands && hours > 0) sums.championAlarmed++;
      } else if (alarmStands && has === 'subject') sums.alarmed++;
      else if (alarmStands && has === 'champion' && seen.isTarget) sums.championAlarmed++;
      const { n, mean } = difference.data;
      if (n > 0) shift.push(mean / threshold);
    }
    return {
      ...sums,
      alarms: this.alarms,
      championAlarms: this.championAlarms,
      records: this.records,
      shift: shift.data,
      latency: { rows: this.latency.n, p99: this.latency.quantile(0.99) },
    };
  }

  private reported(vehicle: string, report: VehicleReported): void {
    const { active, agent, phase, error, campaigns } = report;
    const { subject, champion, kind } = this.options;
    const seen = this.seen(vehicle);
    const time = Date.parse(report.time);
    const passed = time - seen.time;
    const rows = agent?.rows;
    const drives = rows === undefined || seen.rows === undefined || rows > seen.rows;
    const hours = passed > 0 && passed <= REPORT_GAP_MS_MAX && drives ? passed / HOUR_MS : 0;
    const before = seen.has;
    seen.time = time;
    seen.rows = rows;
    seen.alarmStands = agent?.alarmActive ?? false;
    if (subject.kind === 'campaign') {
      const report = campaigns?.find(
        ({ id, version }) => id === subject.campaign.id && version === subject.campaign.version,
      );
      seen.failed = report?.phase === 'failed' || report?.phase === 'refused';
      seen.has = report === undefined ? 'champion' : seen.failed ? undefined : 'subject';
    } else {
      const concerns = this.isSubject(kind === 'shadow' ? report.candidate : active);
      seen.has = concerns ? 'subject' : same(active, champion) ? 'champion' : undefined;
      // A car that has not got it says why in its report; one in trouble with something else has it.
      seen.failed = !concerns && phase === 'failed' && !NETWORK_ERRORS.has(error?.code ?? '');
    }
    if (before !== seen.has || hours === 0) return;
    // Of a shadow the periods say more exactly how long it was.
    if (seen.has === 'champion') seen.championHours += hours;
    else if (seen.has === 'subject' && kind === 'group') seen.hours += hours;
  }

  private shadow(vehicle: string, statistics: VehicleShadow): void {
    const { model, active, from, to, rows, score, difference, alarms, latency } = statistics;
    const { kind, champion, threshold } = this.options;
    if (kind !== 'shadow' || !this.isSubject(model)) return;
    const seen = this.seen(vehicle);
    const [begin, end] = [Date.parse(from), Date.parse(to)];
    this.latency.add(latency.sketch);
    seen.scores += score.n;
    seen.over += countOver(score.sketch, threshold ?? Number.POSITIVE_INFINITY);
    const inPeriod = seen.waiting.filter((time) => time >= begin && time <= end).length;
    seen.waiting = seen.waiting.filter((time) => time > end);
    // Beside another model than the champion it tells nothing of the two.
    if (!same(active, champion)) return;
    seen.difference.add(difference);
    this.alarms += alarms;
    this.championAlarms += inPeriod;
    // From the first row to the last there is one period of rows less than there are rows.
    if (rows > 1) seen.hours += ((end - begin) / (rows - 1)) * (rows / HOUR_MS);
  }

  private alarm(vehicle: string, model: ModelRef, time: number): void {
    const seen = this.seen(vehicle);
    if (same(model, this.options.champion)) {
      if (this.options.kind === 'shadow') {
        if (seen.waiting.push(time) > ALARMS_WAITING_MAX) seen.waiting.shift();
      } else if (seen.isTarget) this.championAlarms++;
    } else if (this.options.kind === 'group' && this.isSubject(model)) this.alarms++;
  }

  private seen(vehicle: string): VehicleEvidence {
    let seen = this.vehicles.get(vehicle);
    if (seen === undefined) {
      seen = {
        isTarget: this.options.isTarget(vehicle),
        time: Number.NaN,
        rows: undefined,
        has: undefined,
        alarmStands: false,
        hours: 0,
        championHours: 0,
        hardStopped: false,
        stopped: false,
        failed: false,
        scores: 0,
        over: 0,
        difference: new Moments(),
        waiting: [],
      };
      this.vehicles.set(vehicle, seen);
    }
    return seen;
  }

  private isSubject(model: ModelRef | null | undefined): boolean {
    const { subject } = this.options;
    return subject.kind === 'model' && same(model, subject.model);
  }
}

export function same(a: ModelRef | null | undefined, b: ModelRef | null | undefined): boolean {
  return a?.name === b?.name && a?.version === b?.version && a != null;
}

/** How many of the values of a sketch are over a limit, to its accuracy. */
function countOver({ accuracy, bins }: QuantileSketchData, limit: number): number {
  const gamma = (1 + accuracy) / (1 - accuracy);
  // The bin in which the limit is counts as not over it.
  const last = Math.ceil(Math.log(limit) / Math.log(gamma));
  return bins.reduce((sum, [bin, count]) => (bin > last ? sum + count : sum), 0);
}
