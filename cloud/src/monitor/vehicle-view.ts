import type { ModelRef } from '@cardan/shared';
import type { Alarm, VehicleState, VehicleTile } from './messages.ts';
import { jsonNumber, type Series } from './series.ts';

/** A car from which nothing came for so long (clock of the monitor) counts as offline, whatever it said last. */
const SILENT_MS = 30_000;
/** Rows behind one point of the small curve in a tile, and points in it. */
const SPARK_ROWS = 10;
const SPARK_POINTS = 24;
/** Alarms kept per vehicle, to shade their spans. */
const ALARMS_MAX = 50;

/** Boots and alarms whose order is remembered, to tell whether an alarm that comes late is over. */
const TURNS_MAX = 100;

/** Something that ends the alarm before it: a boot, or another alarm. */
export interface Turn {
  /** Data time. */
  time: number;
  /** The car's own order; NaN for an event that names none. Clocks are no help: a recording is older than its boot. */
  epoch: number;
  sequence: number;
}

/** What the car said of itself last. */
export interface ReportedState {
  active: ModelRef | null;
  phase: 'idle' | 'updating' | 'failed';
  error: string | null;
  agent: string;
  outboxRows: number;
  dropped: { rows: number; events: number };
  frames: { received: number; unknown: number; malformed: number };
}

/** Everything that the monitor knows of one vehicle. */
export class VehicleView {
  readonly id: string;
  /** Grows with every change, across all vehicles. */
  revision = 0;
  /** The state that the tile shows; it also changes when time passes. */
  shown: VehicleState = 'offline';
  signalSet: string | null = null;
  /** Signals and the car's scores. */
  rows: Series | undefined;
  /** The cloud's scores. */
  cloud: Series | undefined;
  rowsRead = 0;
  /** Data time of the newest row. */
  time: number | null = null;
  score = Number.NaN;
  /** The model that gave the newest row its score. */
  scoredBy: ModelRef | null = null;
  reported: ReportedState | null = null;
  saidOnline: boolean | null = null;
  /** Clock of the monitor when something came from the car, or when the monitor began to look. */
  heardAt: number;
  alarm: Alarm | null = null;
  readonly alarms: Alarm[] = [];
  /** What raised `alarm`. */
  alarmTurn: Turn | null = null;
  private readonly turns: Turn[] = [];
  private tile: { revision: number; json: string } | undefined;

  constructor(id: string, now: number) {
    this.id = id;
    this.heardAt = now;
  }

  get model(): ModelRef | null {
    return this.reported === null ? this.scoredBy : this.reported.active;
  }

  online(now: number): boolean {
    return this.saidOnline !== false && now - this.heardAt < SILENT_MS;
  }

  state(now: number): VehicleState {
    if (this.alarm !== null) return 'alarm';
    if (!this.online(now)) return 'offline';
    return this.model === null ? 'learning' : 'healthy';
  }

  addAlarm(alarm: Alarm): void {
    this.alarms.push(alarm);
    if (this.alarms.length > ALARMS_MAX) this.alarms.shift();
  }

  addTurn(turn: Turn): void {
    if (Number.isNaN(turn.sequence)) return;
    this.turns.push(turn);
    if (this.turns.length > TURNS_MAX) this.turns.shift();
  }

  /** What followed this in the car, if it is known already: cars send their newest alarms first, and boots before them. */
  turnAfter(turn: Turn): Turn | undefined {
    let next: Turn | undefined;
    for (const other of this.turns)
      if (isAfter(other, turn) && (next === undefined || other.sequence < next.sequence)) next = other;
    return next;
  }

  /** The tile as JSON, made once per change: every page is sent the same text. */
  tileJson(now: number, threshold: number | undefined): string {
    if (this.tile?.revision !== this.revision)
      this.tile = { revision: this.revision, json: JSON.stringify(this.toTile(now, threshold)) };
    return this.tile.json;
  }

  toTile(now: number, threshold: number | undefined): VehicleTile {
    return {
      id: this.id,
      state: this.state(now),
      online: this.online(now),
      ratio: threshold === undefined ? null : jsonNumber(this.score / threshold),
      spark: threshold === undefined ? [] : this.spark(threshold),
      model: this.model,
      phase: this.reported?.phase ?? null,
      signalSet: this.signalSet,
      time: this.time,
      rows: this.rowsRead,
      outboxRows: this.reported?.outboxRows ?? null,
    };
  }

  /** Points stand for fixed groups of rows, so that the curve moves on and does not shimmer. */
  private spark(threshold: number): (number | null)[] {
    const { rows } = this;
    if (rows === undefined || rows.total === 0) return [];
    const last = Math.floor((rows.total - 1) / SPARK_ROWS);
    const points: (number | null)[] = [];
    for (let group = Math.max(0, last - SPARK_POINTS + 1); group <= last; group++) {
      let largest = Number.NaN;
      for (let row = group * SPARK_ROWS; row < (group + 1) * SPARK_ROWS; row++) {
        const score = rows.scoreAt(row);
        if (!(score <= largest)) largest = Number.isNaN(score) ? largest : score;
      }
      points.push(Number.isNaN(largest) ? null : Math.round((100 * largest) / threshold) / 100);
    }
    return points;
  }
}

/** Whether the car said `a` after `b`; false where that cannot be known. */
export function isAfter(a: Turn, b: Turn): boolean {
  return a.epoch === b.epoch && a.sequence > b.sequence;
}
