import { setImmediate as nextTurn } from 'node:timers/promises';
import type Database from 'better-sqlite3';
import { transaction, whenFree } from './sqlite-file.ts';
import type { NewRow, Partition, PartitionState } from './sqlite-partition.ts';

/** A transaction blocks the event loop: this many bytes or rows take some 10 to 30 ms. */
const TRANSACTION_BYTES_MAX = 4 * 1024 * 1024;
const TRANSACTION_ROWS_MAX = 5000;

/** One `append`: all of its rows are written, or none. */
interface Append {
  partitions: readonly Partition[];
  rows: readonly NewRow[];
  bytes: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/**
 * Group commit: appends that wait at the same time share one transaction, and so one sync of the disk.
 * The queue holds what callers wait for: their number is its bound.
 */
export class Writer {
  readonly #db: Database.Database;
  readonly #written: () => void;
  readonly #queue: Append[] = [];
  #running: Promise<void> | undefined;

  /** `written` is called after each commit. */
  constructor(db: Database.Database, written: () => void) {
    this.#db = db;
    this.#written = written;
  }

  /** Resolves when the rows are durable; rejects when none of them is written. */
  append(partitions: readonly Partition[], rows: readonly NewRow[], bytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ partitions, rows, bytes, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Resolves when everything that was appended before has been written or rejected. */
  async drained(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      // The turn's other callbacks may append as well.
      await nextTurn();
      const appends = this.#take();
      try {
        await whenFree(() => this.#write(appends));
        for (const append of appends) append.resolve();
      } catch (error) {
        for (const append of appends) append.reject(error);
      }
      this.#written();
    }
    this.#running = undefined;
  }

  #take(): Append[] {
    let bytes = 0;
    let rows = 0;
    let count = 0;
    for (const append of this.#queue) {
      bytes += append.bytes;
      rows += append.rows.length;
      if (count > 0 && (bytes > TRANSACTION_BYTES_MAX || rows > TRANSACTION_ROWS_MAX)) break;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  #write(appends: readonly Append[]): void {
    transaction(this.#db, () => {
      const states = new Map<Partition, PartitionState>();
      for (const { partitions, rows } of appends)
        for (const row of rows) {
          const partition = partitions[row.partition]!;
          let state = states.get(partition);
          if (state === undefined) states.set(partition, (state = partition.state()));
          partition.append(row, state);
        }
      for (const [partition, state] of states) partition.saveState(state);
    });
  }
}
