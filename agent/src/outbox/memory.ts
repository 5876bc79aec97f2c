import type { NewEvent } from './event.ts';
import { priorityOf, type NewRow } from './row.ts';

/**
 * Rows that are not in a file, in sequence: those of this turn of the event loop, those that the disk does not take,
 * and those that it shall never see.
 */
export class MemoryRows {
  private rows: NewRow[] = [];

  get all(): readonly NewRow[] {
    return this.rows;
  }

  get length(): number {
    return this.rows.length;
  }

  add(row: NewRow): void {
    this.rows.push(row);
  }

  /** Rows from `first` on, without gaps, of its context. */
  run(first: NewRow, rowsMax: number): NewRow[] {
    const from = this.rows.indexOf(first);
    let to = from + 1;
    while (
      to < this.rows.length &&
      to - from < rowsMax &&
      this.rows[to]!.sequence === this.rows[to - 1]!.sequence + 1 &&
      this.rows[to]!.context === first.context
    )
      to++;
    return this.rows.slice(from, to);
  }

  /** Lets go of those that are in the log, both ends inclusive. */
  remove(first: number, last: number): void {
    // Those without a number are 0, and were never sent.
    this.rows = this.rows.filter(({ sequence }) => sequence < first || sequence > last);
  }

  /** Takes out those that `test` is true for. */
  take(test: (row: NewRow) => boolean): NewRow[] {
    const taken = this.rows.filter(test);
    if (taken.length > 0) this.rows = this.rows.filter((row) => !test(row));
    return taken;
  }

  /** Takes out what is too much: the oldest row of the lowest priority first. Only `kind` counts. */
  bound(rowsMax: number, kind: (row: NewRow) => boolean): NewRow[] {
    const gone: NewRow[] = [];
    for (let over = this.rows.filter(kind).length - rowsMax; over > 0; over--) {
      let lowest: NewRow | undefined;
      for (const row of this.rows)
        if (kind(row) && (lowest === undefined || priorityOf(row.context) < priorityOf(lowest.context)))
          lowest = row;
      if (lowest === undefined) break;
      this.rows.splice(this.rows.indexOf(lowest), 1);
      gone.push(lowest);
    }
    return gone;
  }
}

/** Events that are not in a file, in sequence. */
export class MemoryEvents {
  private events: NewEvent[] = [];

  get all(): readonly NewEvent[] {
    return this.events;
  }

  get length(): number {
    return this.events.length;
  }

  add(event: NewEvent): void {
    this.events.push(event);
  }

  has(sequence: number): boolean {
    return this.events.some((event) => event.sequence === sequence);
  }

  removeOldest(): void {
    this.events.shift();
  }

  /** Lets go of those that are in the log, both ends inclusive. */
  remove(first: number, last: number): void {
    this.events = this.events.filter(({ sequence }) => sequence < first || sequence > last);
  }

  /** Takes out what is too much: the oldest event of the lowest priority first. */
  bound(eventsMax: number): NewEvent[] {
    const gone: NewEvent[] = [];
    while (this.events.length > eventsMax) {
      let lowest = 0;
      this.events.forEach(({ priority }, i) => {
        if (priority < this.events[lowest]!.priority) lowest = i;
      });
      gone.push(...this.events.splice(lowest, 1));
    }
    return gone;
  }
}
