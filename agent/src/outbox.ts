import { CardanError, messageOf, systemCode, type TelemetryBatch } from '@cardan/shared';
import { AGENT_DEFAULTS } from './config.ts';
import { systemClock, type Clock } from './outbox/clock.ts';
import { isCorrupt, isDiskTrouble, setAside } from './outbox/file.ts';
import { priorityOf, type Dropped, type NewRow, type RowContext } from './outbox/row.ts';
import { OutboxStore, type MakeEvent, type StoredRow } from './outbox/store.ts';

export { PRIORITY_ALARM, PRIORITY_DEFAULT, type Dropped, type RowContext } from './outbox/row.ts';
export { systemClock, type Clock } from './outbox/clock.ts';

export interface OutboxOptions {
  path: string;
  /** Most rows that are kept while nothing can be sent; then the oldest of the lowest priority go, and are counted. */
  rowsMax: number;
  eventsMax: number;
  /** NORMAL survives kill -9, and may lose the last commits at a power cut; FULL does not. */
  synchronous: 'NORMAL' | 'FULL';
  /** Most bytes of rows; never more than half of what the disk has room for at the start. */
  bytesMax?: number;
  /** Rows and events that have waited for longer go, and are counted (milliseconds). */
  ageMaxMs?: number;
  /** Most rows in memory while the disk takes none. */
  memoryRowsMax?: number;
  /** Most events in memory while the disk takes none. */
  memoryEventsMax?: number;
  clock?: Clock;
  onProblem?: (error: CardanError) => void;
}

/** While the disk takes nothing, it is asked again this often; `flush()` asks at once. */
const RETRY_MS = 1000;

/** Acknowledgements that could not be written down; beyond this the oldest are forgotten, and sent again: copies only. */
const ACKS_MAX = 1000;

type Range = [first: number, last: number];

/**
 * What has been measured and is not yet known to be in the log. Rows and events wait here, in SQLite, until a
 * bridge has acknowledged their sequence numbers. Sequence numbers are never used twice within an epoch; the
 * epoch changes only when an outbox is created anew. While the disk takes nothing, they wait in memory.
 */
export class Outbox {
  private readonly options: Required<Omit<OutboxOptions, 'onProblem'>>;
  private readonly onProblem: (error: CardanError) => void;
  /** Undefined while the file cannot be opened, since its disk is full. */
  private store: OutboxStore | undefined;
  private buffered: NewRow[] = [];
  private bufferedEvents: { make: MakeEvent; priority: number | undefined; monotonic: number }[] = [];
  private flushing: NodeJS.Immediate | undefined;
  private retry: NodeJS.Timeout | undefined;
  /** Losses in memory that are not in the file yet. */
  private readonly lost = new Map<string, Dropped>();
  private readonly acked: { rows: Range[]; events: Range[] } = { rows: [], events: [] };
  /** A correction of the clock that could not be written down yet: nothing of this boot is sent before. */
  private shiftMs = 0;
  private lastEpoch = 0;
  private closed = false;
  private onFlush: () => void = () => undefined;

  constructor(options: OutboxOptions) {
    const { onProblem, ...rest } = options;
    this.options = { clock: systemClock, ...AGENT_DEFAULTS.outbox, ...rest };
    this.onProblem = onProblem ?? (() => undefined);
    try {
      this.open();
    } catch (error) {
      if (!isDiskTrouble(error)) throw error;
      this.diskRefused(error);
    }
  }

  get epoch(): number {
    return this.store?.epoch ?? this.lastEpoch;
  }

  /** Rows that are not yet acknowledged, those still in memory included. */
  get pendingRows(): number {
    return (this.store?.rowCount ?? 0) + this.buffered.length;
  }

  /** Bytes of the rows in the file, with what they cost in it. */
  get pendingBytes(): number {
    return this.store?.byteCount ?? 0;
  }

  get pendingEvents(): number {
    return (this.store?.eventCount ?? 0) + this.bufferedEvents.length;
  }

  /** Whether the disk takes nothing, so that rows wait in memory. */
  get inMemory(): boolean {
    return this.retry !== undefined;
  }

  /** Sequence number of the oldest row (event) that is not acknowledged; infinite when there is none. */
  get oldestRow(): number {
    return this.oldest()?.sequence ?? Number.POSITIVE_INFINITY;
  }

  get oldestEvent(): number {
    return this.guard((store) => store.oldestEvent(), undefined) ?? Number.POSITIVE_INFINITY;
  }

  /** Sequence number that the next row will get. */
  get nextSequence(): number {
    return (this.store?.nextSequence ?? 1) + this.buffered.length;
  }

  /** Losses since the outbox was created: what had to go because it was full. */
  get dropped(): Dropped {
    const sum = { rows: 0, events: 0 };
    for (const { rows, events } of Object.values(this.droppedBy)) {
      sum.rows += rows;
      sum.events += events;
    }
    return sum;
  }

  /** The same by campaign; rows and events of none are under the empty name. */
  get droppedBy(): Record<string, Dropped> {
    const all = new Map(this.store?.losses);
    for (const [campaign, { rows, events }] of this.lost) {
      const stored = all.get(campaign);
      all.set(campaign, { rows: rows + (stored?.rows ?? 0), events: events + (stored?.events ?? 0) });
    }
    return Object.fromEntries(all);
  }

  /** Called whenever rows or events have become ready to be sent. */
  notify(onFlush: () => void): void {
    this.onFlush = onFlush;
  }

  /** Takes a row. Rows of one turn of the event loop are written in one transaction. */
  addRow(time: number, values: Float32Array, score: number | undefined, context: RowContext): void {
    this.buffered.push({
      time,
      values: Buffer.from(values.slice().buffer),
      score: score === undefined || Number.isNaN(score) ? null : score,
      context,
      monotonic: this.options.clock.monotonicMs(),
    });
    if (this.retry === undefined) this.flushing ??= setImmediate(() => this.flush());
    else this.boundMemory();
  }

  /**
   * Takes an event at once; `make` is given the sequence number that the event will have. Without a priority an
   * alarm has the highest, all else the middle one.
   */
  addEvent(make: MakeEvent, priority?: number): void {
    this.bufferedEvents.push({ make, priority, monotonic: this.options.clock.monotonicMs() });
    if (this.retry === undefined) this.writeEvents();
    this.boundMemory();
    this.onFlush();
  }

  /** Writes buffered rows. Happens by itself; called at shutdown, or before the outbox is looked into. */
  flush(): void {
    if (this.flushing !== undefined) clearImmediate(this.flushing);
    this.flushing = undefined;
    if (this.buffered.length > 0 || this.retry !== undefined) this.write();
  }

  /**
   * The clock has been set: it was wrong by `offsetMs` (right time minus wrong time) since the computer started.
   * The wall time of what this boot has recorded, and has not been acknowledged, moves by that.
   */
  clockCorrected(offsetMs: number): void {
    this.flush();
    this.shiftMs += Math.round(offsetMs);
    for (const row of this.buffered) row.time = Math.max(0, row.time + Math.round(offsetMs));
    for (const held of this.bufferedEvents) {
      const { make } = held;
      held.make = (identity) => {
        const event = make(identity);
        const time = new Date(Math.max(0, Date.parse(event.time) + Math.round(offsetMs))).toISOString();
        return { ...event, time };
      };
    }
    this.guard(() => this.writeShift(), undefined);
    this.onFlush();
  }

  /** The oldest rows that make one batch: in sequence, of one context, in rising time; or undefined. */
  oldestRows(rowsMax: number, bytesMax = Number.POSITIVE_INFINITY): TelemetryBatch | undefined {
    if (this.shiftMs !== 0) return undefined;
    return this.guard((store) => {
      const first = this.oldest();
      if (first === undefined || store.timeUnknown(first)) return undefined;
      // Values, time and score are most of what goes over the air.
      const bytesPerRow = first.values.byteLength + 8;
      const rows = Math.max(1, Math.min(rowsMax, Math.floor(bytesMax / bytesPerRow)));
      return this.batch(store, store.run(first, rows));
    }, undefined);
  }

  /** What goes up next, as JSON: events in their order, then alarms, the newest first. */
  nextEvents(eventsMax: number): { sequence: number; json: string; priority: number }[] {
    if (this.shiftMs !== 0) return [];
    return this.guard((store) => {
      const events = store.nextEvents(eventsMax + this.acked.events.length);
      return events.filter(({ sequence }) => !inside(this.acked.events, sequence)).slice(0, eventsMax);
    }, []);
  }

  /** Whether this event still waits for its acknowledgement. */
  hasEvent(sequence: number): boolean {
    return !inside(this.acked.events, sequence) && this.guard((store) => store.hasEvent(sequence), false);
  }

  /** These rows are in the log: they can go. Both ends inclusive. */
  acknowledgeRows(first: number, last: number): void {
    this.acknowledge('rows', [first, last]);
  }

  /** These events are in the log: they can go. Both ends inclusive. */
  acknowledgeEvents(first: number, last: number): void {
    this.acknowledge('events', [first, last]);
  }

  /** A number that outlives the process, by its name; 0 at first. */
  number(name: string): number {
    return this.guard((store) => store.number(name), undefined) ?? 0;
  }

  keepNumbers(numbers: Record<string, number>): void {
    this.guard((store) => store.keepNumbers(numbers), undefined);
  }

  /** Closes the file. Rows that the disk does not take even now are lost, and said to be. */
  close(): void {
    this.closed = true;
    this.flush();
    clearTimeout(this.retry);
    this.retry = undefined;
    if (this.buffered.length + this.bufferedEvents.length > 0)
      this.onProblem(
        new CardanError(
          'OUTBOX_FULL',
          `${this.buffered.length} rows and ${this.bufferedEvents.length} events that were in memory are lost: the disk of ${this.options.path} took none until the end.`,
        ),
      );
    this.store?.close();
  }

  private open(): void {
    try {
      this.store = new OutboxStore(this.options);
    } catch (error) {
      if (!isCorrupt(error)) throw error;
      this.beginAnew(error);
    }
    this.lastEpoch = this.store?.epoch ?? this.lastEpoch;
  }

  /** The file is damaged: it is kept under another name, and a new one begun. */
  private beginAnew(cause: unknown): void {
    const { path, clock } = this.options;
    const rows =
      this.store === undefined ? 'Rows that it holds are' : `About ${this.store.rowCount} rows in it are`;
    this.store?.close();
    this.store = undefined;
    this.acked.rows = [];
    this.acked.events = [];
    const kept = setAside(path, clock.wallMs());
    this.store = new OutboxStore(this.options);
    this.lastEpoch = this.store.epoch;
    this.onProblem(
      new CardanError(
        'OUTBOX_CORRUPT',
        `The outbox ${path} is damaged (${messageOf(cause)}). ${rows} not sent; it is kept as ${kept}, and a new one has begun. Check the disk.`,
        { cause },
      ),
    );
  }

  /** Does something with the file, which may be full or damaged; then `otherwise`. */
  private guard<T>(work: (store: OutboxStore) => T, otherwise: T): T {
    if (this.store === undefined) return otherwise;
    try {
      return work(this.store);
    } catch (error) {
      this.failed(error);
      return otherwise;
    }
  }

  /** Returns whether a new file has begun, so that it is worth to try again. */
  private failed(error: unknown): boolean {
    if (isCorrupt(error)) {
      try {
        this.beginAnew(error);
        return true;
      } catch (again) {
        error = again;
      }
    }
    if (!isDiskTrouble(error)) throw error;
    this.diskRefused(error);
    return false;
  }

  private diskRefused(cause: unknown): void {
    if (this.closed) return;
    const before = this.retry;
    clearTimeout(before);
    this.retry = setTimeout(() => this.write(), RETRY_MS).unref();
    this.boundMemory();
    if (before !== undefined) return; // it has been said
    const full = systemCode(cause) === 'SQLITE_FULL';
    this.onProblem(
      new CardanError(
        full ? 'OUTBOX_FULL' : 'OUTBOX_IO',
        `The disk of the outbox ${this.options.path} ${full ? 'is full' : `fails (${systemCode(cause)})`}. ` +
          `New rows wait in memory, ${this.options.memoryRowsMax} at most, until it takes them again. ` +
          (full ? 'Make room on it.' : 'Check the disk, and the rights of the file.'),
        { cause },
      ),
    );
  }

  /** Brings everything that waits in memory into the file, and what could not be written about the rest. */
  private write(again = false): void {
    try {
      if (this.store === undefined) this.open();
      this.writeAll();
    } catch (error) {
      // A new file takes at once what waits, but if that is damaged too it ends here.
      if (this.failed(error) && !again) this.write(true);
      return;
    }
    clearTimeout(this.retry);
    this.retry = undefined;
    this.onFlush();
  }

  private writeAll(): void {
    const { store } = this;
    if (store === undefined) return;
    if (this.shiftMs !== 0) this.writeShift();
    for (const kind of ['rows', 'events'] as const)
      for (let range = this.acked[kind][0]; range !== undefined; range = this.acked[kind][0]) {
        if (kind === 'rows') store.removeRows(...range);
        else store.removeEvents(...range);
        this.acked[kind].shift();
      }
    while (this.bufferedEvents.length > 0) {
      const { make, priority, monotonic } = this.bufferedEvents[0]!;
      store.addEvent(make, priority, monotonic);
      this.bufferedEvents.shift();
    }
    if (this.buffered.length > 0) store.write(this.buffered);
    this.buffered = [];
    if (this.lost.size > 0) store.countDropped(this.lost);
    this.lost.clear();
  }

  private writeEvents(): void {
    this.guard((store) => {
      while (this.bufferedEvents.length > 0) {
        const { make, priority, monotonic } = this.bufferedEvents[0]!;
        store.addEvent(make, priority, monotonic);
        this.bufferedEvents.shift();
      }
    }, undefined);
    // Not refused by the disk, and still here: a new file has begun after a damaged one.
    if (this.bufferedEvents.length > 0 && !this.inMemory) this.write(true);
  }

  private writeShift(): void {
    this.store?.shiftTimes(this.shiftMs);
    if (this.store !== undefined) this.shiftMs = 0;
  }

  private acknowledge(kind: 'rows' | 'events', range: Range): void {
    const done = this.guard((store) => {
      if (kind === 'rows') store.removeRows(...range);
      else store.removeEvents(...range);
      return true;
    }, false);
    if (done) return;
    // The disk takes not even a deletion. They are not sent again, and deleted when it does.
    this.acked[kind].push(range);
    if (this.acked[kind].length > ACKS_MAX) this.acked[kind].shift();
  }

  /** In memory, too, the oldest of the lowest priority go first. */
  private boundMemory(): void {
    const { memoryRowsMax, memoryEventsMax } = this.options;
    while (this.inMemory && this.buffered.length > memoryRowsMax) {
      let lowest = 0;
      for (let i = 1; i < this.buffered.length; i++)
        if (priorityOf(this.buffered[i]!.context) < priorityOf(this.buffered[lowest]!.context)) lowest = i;
      const [gone] = this.buffered.splice(lowest, 1);
      this.count(gone?.context.campaign ?? '', 1, 0);
    }
    while (this.bufferedEvents.length > memoryEventsMax) {
      this.bufferedEvents.shift();
      this.count('', 0, 1);
    }
  }

  private count(campaign: string, rows: number, events: number): void {
    const before = this.lost.get(campaign) ?? { rows: 0, events: 0 };
    this.lost.set(campaign, { rows: before.rows + rows, events: before.events + events });
  }

  /** The oldest row that is not acknowledged. */
  private oldest(): StoredRow | undefined {
    return this.guard((store) => {
      let row = store.oldestRow(0);
      for (let range; row !== undefined && (range = inside(this.acked.rows, row.sequence)) !== undefined;)
        row = store.oldestRow(range[1] + 1);
      return row;
    }, undefined);
  }

  private batch(store: OutboxStore, records: StoredRow[]): TelemetryBatch {
    const first = records[0]!;
    let rows = 1;
    // A batch ends where rows were dropped between, or where the clock went back.
    for (; rows < records.length; rows++) {
      const [before, row] = [records[rows - 1]!, records[rows]!];
      if (
        row.sequence !== before.sequence + 1 ||
        row.time < before.time ||
        row.time - before.time > 0xffffffff ||
        row.values.byteLength !== first.values.byteLength ||
        store.timeUnknown(row)
      )
        break;
    }
    const signals = first.values.byteLength / 4;
    const values = new Float32Array(rows * signals);
    const bytes = Buffer.from(values.buffer);
    const times = new Float64Array(rows);
    const scores = new Float32Array(rows);
    for (let i = 0; i < rows; i++) {
      const record = records[i]!;
      record.values.copy(bytes, i * signals * 4);
      times[i] = record.time;
      scores[i] = record.score ?? Number.NaN;
    }
    const { signalSet, modelName, modelVersion, campaign = '' } = store.contextOf(first.context);
    return {
      signalSet,
      modelName,
      modelVersion,
      epoch: store.epoch,
      firstSequence: first.sequence,
      times,
      values,
      scores: modelName !== '' ? scores : new Float32Array(0),
      ...(campaign === '' ? {} : { campaign }),
    };
  }
}

function inside(ranges: readonly Range[], sequence: number): Range | undefined {
  return ranges.find(([first, last]) => first <= sequence && sequence <= last);
}
