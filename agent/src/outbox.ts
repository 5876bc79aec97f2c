import { CardanError, messageOf, parseCloudEvent, systemCode } from '@cardan/shared';
import { AGENT_DEFAULTS } from './config.ts';
import { AckedRanges } from './outbox/acked.ts';
import { makeBatch, type BatchRow, type OutboxBatch } from './outbox/batch.ts';
import { systemClock, type Clock } from './outbox/clock.ts';
import { ClockWatch, type Correction } from './outbox/clock-watch.ts';
import {
  defaultPriority,
  inOrder,
  readyEvent,
  withTime,
  type MakeEvent,
  type ReadyEvent,
} from './outbox/event.ts';
import { isCorrupt, isDiskTrouble, setAside } from './outbox/file.ts';
import { MemoryEvents, MemoryRows } from './outbox/memory.ts';
import { type Dropped, type NewRow, type RowContext } from './outbox/row.ts';
import { OutboxStore, type StoredRow } from './outbox/store.ts';

export {
  COMPRESSIONS,
  PRIORITY_ALARM,
  PRIORITY_DEFAULT,
  type Compression,
  type Dropped,
  type RowContext,
} from './outbox/row.ts';
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
  /** Most rows in memory while the disk takes none; and as many of those that are never written to it. */
  memoryRowsMax?: number;
  /** Most events in memory while the disk takes none. */
  memoryEventsMax?: number;
  /** How long a clock that may be right, but is not known to be, is waited for before rows go up (milliseconds). */
  clockHoldMs?: number;
  clock?: Clock;
  onProblem?: (error: CardanError) => void;
}

/** While the disk takes nothing, it is asked again this often; `flush()` asks at once. */
const RETRY_MS = 1000;

/** Corrections of the clock that could not be written down. It is set once, as a rule. */
const CORRECTIONS_MAX = 100;

const persists = ({ context }: NewRow) => context.persistence !== 'memory';
const isVolatile = (row: NewRow) => !persists(row);

/**
 * What has been measured and is not yet known to be in the log. Rows and events wait here, in SQLite, until a
 * bridge has acknowledged their sequence numbers. Sequence numbers are never used twice within an epoch; the
 * epoch changes only when an outbox is created anew. While the disk takes nothing, they wait in memory and go up
 * from there.
 */
export class Outbox {
  private readonly options: Required<Omit<OutboxOptions, 'onProblem'>>;
  private readonly onProblem: (error: CardanError) => void;
  /** Undefined while the file cannot be opened, since its disk is full. */
  private store: OutboxStore | undefined;
  private readonly memory = new MemoryRows();
  private readonly memoryEvents = new MemoryEvents();
  private flushing: NodeJS.Immediate | undefined;
  private retry: NodeJS.Timeout | undefined;
  /** Losses in memory that are not in the file yet. */
  private readonly lost = new Map<string, Dropped>();
  private readonly acked = { rows: new AckedRanges(), events: new AckedRanges() };
  private watch: ClockWatch;
  /** Corrections that could not be written down yet; what is read from the file gets them on its way. */
  private readonly corrections: Correction[] = [];
  private lastEpoch = 0;
  private closed = false;
  private onFlush: () => void = () => undefined;

  constructor(options: OutboxOptions) {
    const { onProblem, ...rest } = options;
    this.options = { clock: systemClock, ...AGENT_DEFAULTS.outbox, ...rest };
    this.onProblem = onProblem ?? (() => undefined);
    this.watch = new ClockWatch(this.options.clock);
    try {
      this.open();
    } catch (error) {
      if (!isDiskTrouble(error)) throw error;
      this.diskRefused(error);
    }
    this.checkClock();
    this.dropTooOld();
  }

  get epoch(): number {
    return this.store?.epoch ?? this.lastEpoch;
  }

  /** Rows that are not yet acknowledged, those in memory included. */
  get pendingRows(): number {
    return (this.store?.rowCount ?? 0) - this.acked.rows.count + this.memory.length;
  }

  /** Bytes of the rows in the file, with what they cost in it. */
  get pendingBytes(): number {
    return this.store?.byteCount ?? 0;
  }

  get pendingEvents(): number {
    return (this.store?.eventCount ?? 0) - this.acked.events.count + this.memoryEvents.length;
  }

  /** Whether the disk takes nothing, so that rows wait in memory. */
  get inMemory(): boolean {
    return this.retry !== undefined;
  }

  /** Whether what this boot has recorded waits for the clock to be set. */
  get waitsForClock(): boolean {
    return this.store?.boots.heldBack ?? false;
  }

  /** Sequence number of the oldest row (event) that is not acknowledged; infinite when there is none. */
  get oldestRow(): number {
    return this.guard((store) => this.oldest(store)?.sequence, undefined) ?? Number.POSITIVE_INFINITY;
  }

  get oldestEvent(): number {
    return this.guard((store) => store.oldestEvent(), undefined) ?? Number.POSITIVE_INFINITY;
  }

  /** Sequence number that the next row will get. */
  get nextSequence(): number {
    return this.store?.nextSequence ?? 1;
  }

  /** Losses since the outbox was created: what had to go because it was full. */
  get dropped(): Dropped {
    const all = { rows: 0, events: 0 };
    for (const { rows, events } of Object.values(this.droppedBy)) {
      all.rows += rows;
      all.events += events;
    }
    return all;
  }

  /** The same by campaign; rows and events of none are under the empty name. */
  get droppedBy(): Record<string, Dropped> {
    const all = new Map(this.store?.lost);
    for (const [campaign, { rows, events }] of this.lost) {
      const stored = all.get(campaign);
      all.set(campaign, { rows: rows + (stored?.rows ?? 0), events: events + (stored?.events ?? 0) });
    }
    return Object.fromEntries([...all].filter(([, { rows, events }]) => rows + events > 0));
  }

  /** Called whenever rows or events have become ready to be sent. */
  notify(onFlush: () => void): void {
    this.onFlush = onFlush;
  }

  /** Takes a row. Rows of one turn of the event loop are written in one transaction. */
  addRow(time: number, values: Float32Array, score: number | undefined, context: RowContext): void {
    this.checkClock();
    this.memory.add({
      sequence: this.store?.takeRowNumber() ?? 0,
      time: this.watch.right(time),
      values: Buffer.from(values.slice().buffer),
      score: score === undefined || Number.isNaN(score) ? null : score,
      context,
      monotonic: this.options.clock.monotonicMs(),
    });
    // Whether the disk takes it or not: once a turn, who sends hears of it.
    this.flushing ??= setImmediate(() => this.flushed());
    this.boundMemory();
  }

  /**
   * Takes an event at once; `make` is given the sequence number that the event will have, and makes the same event each
   * time. Without a priority an alarm has the highest, all else the middle one. Losses are counted by campaign.
   */
  addEvent(make: MakeEvent, options: number | { priority?: number; campaign?: string } = {}): void {
    this.checkClock();
    const { priority, campaign = '' }: { priority?: number; campaign?: string } =
      typeof options === 'number' ? { priority: options } : options;
    const { watch } = this;
    let right: number | undefined;
    const sequence = this.store?.takeEventNumber() ?? 0;
    this.memoryEvents.add({
      make,
      sequence,
      priority: priority ?? defaultPriority(make({ epoch: this.epoch, sequence })),
      campaign,
      monotonic: this.options.clock.monotonicMs(),
      // Asked once: the clock may be set again.
      rightTime: (time) => (right ??= watch.right(time)),
    });
    if (!this.inMemory) this.writeEvents();
    this.boundMemory();
    this.onFlush();
  }

  /** Writes buffered rows. Happens by itself; called at shutdown, or before the outbox is looked into. */
  flush(): void {
    if (this.flushing !== undefined) clearImmediate(this.flushing);
    this.flushing = undefined;
    this.checkClock();
    if (this.memory.length > 0 || this.inMemory) this.write();
  }

  /**
   * The clock has been set: it was wrong by `offsetMs` (right time minus wrong time) since the computer started.
   * The wall time of what this boot has recorded, and has not been acknowledged, moves by that. The outbox notices by
   * itself when the computer's clock is set; this is for who knows better.
   */
  clockCorrected(offsetMs: number): void {
    this.flush();
    this.correct({ by: Math.round(offsetMs), of: () => true });
  }

  /** The oldest rows that make one batch: in sequence, of one context, in rising time; or undefined. */
  oldestRows(rowsMax: number, bytesMax = Number.POSITIVE_INFINITY): OutboxBatch | undefined {
    this.checkClock();
    this.dropTooOld();
    return this.guard((store) => {
      const first = this.oldest(store);
      if (first === undefined) return undefined;
      // Values, time and score are most of what goes over the air.
      const bytesPerRow = first.values.byteLength + 8;
      const rows = Math.max(1, Math.min(rowsMax, Math.floor(bytesMax / bytesPerRow)));
      if (!('boot' in first)) {
        if (store.boots.heldBack) return undefined;
        return makeBatch(store.epoch, first.context, this.memory.run(first, rows));
      }
      if (store.timeUnknown(first)) return undefined;
      const run: BatchRow[] = [];
      for (const row of store.run(first, rows)) {
        // It ends where something acknowledged could not be deleted yet.
        if (store.timeUnknown(row) || this.acked.rows.has(row.sequence)) break;
        run.push({ ...row, time: this.rightTime(row, store) });
      }
      return makeBatch(store.epoch, store.contexts.get(first.context), run);
    }, undefined);
  }

  /** What goes up next, as JSON: events in their order, then alarms, the newest first. */
  nextEvents(eventsMax: number): ReadyEvent[] {
    this.checkClock();
    this.dropTooOld();
    return this.guard((store) => {
      const events: ReadyEvent[] = [];
      for (const { boot, monotonic, ...event } of store.nextEvents(eventsMax + this.acked.events.count))
        if (!this.acked.events.has(event.sequence))
          events.push(boot === store.boots.id ? this.rightEvent(event, monotonic) : event);
      if (!store.boots.heldBack)
        events.push(...this.memoryEvents.all.map((event) => readyEvent(event, store.epoch)));
      return inOrder(events).slice(0, eventsMax);
    }, []);
  }

  /** Whether this event still waits for its acknowledgement. */
  hasEvent(sequence: number): boolean {
    if (this.memoryEvents.has(sequence)) return true;
    return !this.acked.events.has(sequence) && this.guard((store) => store.hasEvent(sequence), false);
  }

  /** These rows are in the log: they can go. Both ends inclusive. */
  acknowledgeRows(first: number, last: number): void {
    this.memory.remove(first, last);
    this.acknowledge('rows', first, last);
  }

  /** These events are in the log: they can go. Both ends inclusive. */
  acknowledgeEvents(first: number, last: number): void {
    this.memoryEvents.remove(first, last);
    this.acknowledge('events', first, last);
  }

  /** A number that outlives the process, by its name; 0 at first. */
  number(name: string): number {
    return this.guard((store) => store.number(name), undefined) ?? 0;
  }

  keepNumbers(numbers: Record<string, number>): void {
    this.guard((store) => store.keepNumbers(numbers), undefined);
  }

  /** Closes the file. Rows that the disk does not take even now are lost, and said to be; volatile ones are counted. */
  close(): void {
    this.closed = true;
    this.flush();
    clearTimeout(this.retry);
    const wasRefused = this.inMemory;
    this.retry = undefined;
    for (const { context } of this.memory.take(isVolatile)) this.count(context.campaign ?? '', 1, 0);
    if (this.memory.length + this.memoryEvents.length > 0)
      this.onProblem(
        new CardanError(
          'OUTBOX_FULL',
          `${this.memory.length} rows and ${this.memoryEvents.length} events that were in memory are lost: the disk of ${this.options.path} took none until the end.`,
        ),
      );
    if (wasRefused) this.store?.abandon();
    else this.closeStore();
  }

  private closeStore(): void {
    try {
      if (this.lost.size > 0) this.store?.countDropped(this.lost);
      this.store?.close();
    } catch (error) {
      // It is as after a power cut: whole, and the next one leaves numbers out.
      if (!isDiskTrouble(error) && !isCorrupt(error)) throw error;
    }
  }

  private open(): void {
    try {
      this.store = new OutboxStore(this.options);
    } catch (error) {
      if (!isCorrupt(error)) throw error;
      this.beginAnew(error);
    }
    this.opened();
  }

  /** What waits in memory gets its numbers now. */
  private opened(): void {
    const { store } = this;
    if (store === undefined) return;
    this.lastEpoch = store.epoch;
    for (const row of this.memory.all) if (row.sequence === 0) row.sequence = store.takeRowNumber();
    for (const event of this.memoryEvents.all)
      if (event.sequence === 0) event.sequence = store.takeEventNumber();
    if (store.boots.left !== undefined) this.watch = new ClockWatch(this.options.clock, store.boots.left);
  }

  /** The file is damaged: it is kept under another name, and a new one begun. */
  private beginAnew(cause: unknown): void {
    const { path, clock } = this.options;
    const rows =
      this.store === undefined ? 'Rows that it holds are' : `About ${this.store.rowCount} rows in it are`;
    this.store?.abandon();
    this.store = undefined;
    this.acked.rows.clear();
    this.acked.events.clear();
    this.corrections.length = 0;
    for (const waiting of [...this.memory.all, ...this.memoryEvents.all]) waiting.sequence = 0;
    const kept = setAside(path, clock.wallMs());
    this.store = new OutboxStore(this.options);
    this.opened();
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
    if (this.corrections.length > 0) store.correct(this.corrections);
    this.corrections.length = 0;
    for (const kind of ['rows', 'events'] as const)
      for (let { oldest } = this.acked[kind]; oldest !== undefined; { oldest } = this.acked[kind]) {
        if (kind === 'rows') store.removeRows(oldest.first, oldest.last);
        else store.removeEvents(oldest.first, oldest.last);
        this.acked[kind].removeOldest();
      }
    this.insertEvents(store);
    const rows = this.memory.all.filter(persists);
    if (rows.length > 0) store.write(rows);
    this.memory.take(persists);
    if (this.lost.size > 0) store.countDropped(this.lost);
    this.lost.clear();
  }

  private writeEvents(): void {
    this.guard((store) => this.insertEvents(store), undefined);
    // Not refused by the disk, and still here: a new file has begun after a damaged one.
    if (this.memoryEvents.length > 0 && !this.inMemory) this.write(true);
  }

  private insertEvents(store: OutboxStore): void {
    for (const event of [...this.memoryEvents.all]) {
      store.addEvent(readyEvent(event, store.epoch), event.campaign, event.monotonic);
      this.memoryEvents.removeOldest();
    }
  }

  /** A turn of the event loop has ended. */
  private flushed(): void {
    if (!this.inMemory) {
      this.flush();
      return;
    }
    // The disk is asked again by its timer, not with every row.
    this.flushing = undefined;
    this.onFlush();
  }

  private checkClock(): void {
    const correction = this.watch.check();
    if (correction !== undefined) this.correct(correction);
  }

  private correct(correction: Correction): void {
    const { by, of } = correction;
    for (const row of this.memory.all) if (of(row.time, row.monotonic)) row.time = Math.max(0, row.time + by);
    for (const event of this.memoryEvents.all) {
      const { rightTime, monotonic } = event;
      event.rightTime = (time) => {
        const before = rightTime(time);
        return of(before, monotonic) ? before + by : before;
      };
    }
    this.corrections.push(correction);
    if (this.corrections.length > CORRECTIONS_MAX) this.corrections.shift();
    if (!this.inMemory)
      this.guard((store) => {
        store.correct(this.corrections);
        this.corrections.length = 0;
      }, undefined);
    this.onFlush();
  }

  /** The time of a row of the file. */
  private rightTime({ time, monotonic, boot }: StoredRow, store: OutboxStore): number {
    let right = time;
    if (boot === store.boots.id)
      for (const { by, of } of this.corrections) if (of(right, monotonic)) right = Math.max(0, right + by);
    return right;
  }

  private rightEvent(event: ReadyEvent, monotonic: number): ReadyEvent {
    let { json } = event;
    for (const { by, of } of this.corrections)
      json = JSON.stringify(
        withTime(parseCloudEvent(json), (time) => (of(time, monotonic) ? time + by : time)),
      );
    return { ...event, json };
  }

  /** A full disk takes no deletion either: what is too old waits there until it does. */
  private dropTooOld(): void {
    if (!this.inMemory) this.guard((store) => store.dropTooOld(), undefined);
    const { clock, ageMaxMs } = this.options;
    const now = clock.monotonicMs();
    const [oldest] = this.memory.all;
    if (oldest === undefined || now - oldest.monotonic <= ageMaxMs) return;
    for (const { context } of this.memory.take(({ monotonic }) => now - monotonic > ageMaxMs))
      this.count(context.campaign ?? '', 1, 0);
  }

  private acknowledge(kind: 'rows' | 'events', first: number, last: number): void {
    const done = this.guard((store) => {
      if (kind === 'rows') store.removeRows(first, last);
      else store.removeEvents(first, last);
      return true;
    }, false);
    if (done) return;
    // The disk takes not even a deletion. They are not sent again, and deleted when it does.
    this.acked[kind].add(first, last, (from, to) => this.guard((store) => store.count(kind, from, to), 0));
  }

  /** In memory, too, the oldest of the lowest priority go first. */
  private boundMemory(): void {
    const { memoryRowsMax, memoryEventsMax } = this.options;
    if (this.memory.length > memoryRowsMax) {
      const gone = this.memory.bound(memoryRowsMax, isVolatile);
      if (this.inMemory) gone.push(...this.memory.bound(memoryRowsMax, persists));
      for (const { context } of gone) this.count(context.campaign ?? '', 1, 0);
    }
    for (const { campaign } of this.memoryEvents.bound(memoryEventsMax)) this.count(campaign, 0, 1);
  }

  private count(campaign: string, rows: number, events: number): void {
    const before = this.lost.get(campaign) ?? { rows: 0, events: 0 };
    this.lost.set(campaign, { rows: before.rows + rows, events: before.events + events });
  }

  /** The oldest row that is not acknowledged, and can be sent from where it is. */
  private oldest(store: OutboxStore): StoredRow | NewRow | undefined {
    let stored = store.oldestRow(0);
    for (let end; stored !== undefined && (end = this.acked.rows.endOf(stored.sequence)) !== undefined;)
      stored = store.oldestRow(end + 1);
    // What this turn has yet to write comes before anything that was recorded after it.
    const [held] = this.memory.all;
    if (held === undefined || !(this.inMemory || isVolatile(held))) return stored;
    return stored === undefined || held.sequence < stored.sequence ? held : stored;
  }
}
