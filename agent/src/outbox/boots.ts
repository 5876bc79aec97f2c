import type Database from 'better-sqlite3';
import { EARLIEST_MS, type Clock } from './clock.ts';
import type { ClockState } from './clock-watch.ts';

/** Boots that are remembered; of older ones it is only known that they were before this one. */
const BOOTS_MAX = 1000;

/** When something was taken. */
export interface Taken {
  boot: number;
  monotonic: number;
}

/** The boots of the computer that the file has seen, and how their clocks were. */
export class Boots {
  /** The boot that runs. */
  readonly id: number;
  /** How an earlier process of this boot left the clock. */
  readonly left: ClockState | undefined;
  private readonly db: Database.Database;
  private readonly clock: Clock;
  private readonly holdMs: number;
  private readonly openedMs: number;
  /** Of earlier boots: what their wall clock was ahead of their monotonic one, if it was known. */
  private readonly earlier = new Map<number, number>();

  /** @param holdMs how long a clock that may be right is waited for */
  constructor(db: Database.Database, clock: Clock, nextSequence: number, holdMs: number) {
    this.db = db;
    this.clock = clock;
    this.holdMs = holdMs;
    this.openedMs = clock.monotonicMs();
    const find = db.prepare('SELECT id, wall_offset AS offset, known FROM boots WHERE boot = ?');
    const seen = find.get(clock.boot) as BootRecord | undefined;
    if (seen === undefined)
      db.prepare('INSERT INTO boots (boot, first_sequence, wall_offset, known) VALUES (?, ?, 0, 0)').run(
        clock.boot,
        nextSequence,
      );
    else this.left = { offset: seen.offset, known: seen.known === 1 };
    this.id = (find.get(clock.boot) as BootRecord).id;
    if (seen === undefined) this.note({ offset: clock.wallMs() - this.openedMs, known: clock.known() });
    db.prepare('DELETE FROM boots WHERE id <= ?').run(this.id - BOOTS_MAX);
    const known = db.prepare('SELECT id, wall_offset AS offset FROM boots WHERE known = 1 AND id <> ?');
    for (const { id, offset } of known.all(this.id) as BootRecord[]) this.earlier.set(id, offset);
  }

  /** The first sequence number of this boot. */
  firstSequence(): number {
    const boot = this.db.prepare('SELECT first_sequence AS n FROM boots WHERE id = ?').get(this.id);
    return (boot as { n: number }).n;
  }

  /**
   * Whether the times of this boot may yet be corrected, so that nothing of it should go. A clock that could be right is
   * waited for a while only: where nobody ever sets it, rows must go all the same.
   */
  get heldBack(): boolean {
    const { clock } = this;
    if (clock.known()) return false;
    return clock.wallMs() < EARLIEST_MS || clock.monotonicMs() - this.openedMs < this.holdMs;
  }

  /** Notes how this boot's monotonic clock and the wall clock belong together, for who comes after. */
  note({ offset, known }: ClockState): void {
    this.db
      .prepare('UPDATE boots SET wall_offset = ?, known = ? WHERE id = ?')
      .run(Math.round(offset), known ? 1 : 0, this.id);
  }

  /** How long it has waited: within this boot by the clock that never jumps, else by wall clocks that were known. */
  waitedMs({ boot, monotonic }: Taken): number {
    const { clock } = this;
    const now = clock.monotonicMs();
    if (boot === this.id) return now - monotonic;
    const offset = this.earlier.get(boot);
    if (offset === undefined || !clock.known()) return now - this.openedMs;
    return clock.wallMs() - (monotonic + offset);
  }
}

interface BootRecord {
  id: number;
  offset: number;
  known: number;
}
