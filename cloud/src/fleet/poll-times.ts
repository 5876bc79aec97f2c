import type { ProjectionFile } from './projection-file.ts';
import type { VehicleTable } from './vehicle-table.ts';

/** At most one transaction in this time, however many cars poll; so what is read is late by as much. */
const WRITE_MS = 1000;

/**
 * When cars have polled last. That is the one thing in the file that is not in the log: a record for each poll would be
 * most of the log, and after a loss the next poll brings it back.
 */
export class PollTimes {
  private readonly file: ProjectionFile;
  private readonly table: VehicleTable;
  private readonly onProblem: (error: unknown) => void;
  /** By the number of the vehicle's row: no more than there are vehicles. */
  private waiting = new Map<number, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(file: ProjectionFile, table: VehicleTable, onProblem: (error: unknown) => void) {
    this.file = file;
    this.table = table;
    this.onProblem = onProblem;
  }

  /** A vehicle, by the number of its row, polls at this time (milliseconds since 1970). */
  polled(n: number, at: number): void {
    this.waiting.set(n, at);
    this.timer ??= setTimeout(() => this.write(), WRITE_MS).unref();
  }

  /** Writes what waits. After a failure it waits on. */
  write(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.waiting.size === 0) return;
    try {
      this.file.transaction(() => this.table.pollsAt(this.waiting));
      this.waiting = new Map();
    } catch (error) {
      this.onProblem(error);
    }
  }
}
