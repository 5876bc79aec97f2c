/** `skipped`: it could not be looked at here. That is not `ok`. */
export type Status = 'ok' | 'warn' | 'fail' | 'skipped';

/** One line of the doctor: what was looked at, what was seen, and what to do about it. */
export interface Finding {
  status: Status;
  /** `bus socketcan:can0`, `clock`, … */
  what: string;
  finding: string;
  /** What to do; not for `ok`. */
  advice?: string;
}

/** The findings of one subject. */
export class Findings {
  readonly list: Finding[] = [];

  ok(what: string, finding: string): void {
    this.list.push({ status: 'ok', what, finding });
  }

  warn(what: string, finding: string, advice: string): void {
    this.list.push({ status: 'warn', what, finding, advice });
  }

  fail(what: string, finding: string, advice: string): void {
    this.list.push({ status: 'fail', what, finding, advice });
  }

  skip(what: string, finding: string, advice: string): void {
    this.list.push({ status: 'skipped', what, finding, advice });
  }
}

/** `1 row`, `2 rows`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** `1.5 GB`, in steps of 1000, as disks are sold. */
export function bytesText(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Whole days from now to then, rounded down. */
export function daysUntil(then: number, now: number): number {
  return Math.floor((then - now) / 86_400_000);
}

/** `2026-01-31` (UTC). */
export function dayText(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}
