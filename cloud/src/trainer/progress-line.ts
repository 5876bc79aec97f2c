import type { StreamProgress } from './streamed-fit.ts';

/** On a terminal the line is drawn anew this often; elsewhere a new one is written. */
const TERMINAL_MS = 200;
const FILE_MS = 5000;
/** Before that a pass says nothing of its rate. */
const RATE_SECONDS = 0.5;

/**
 * What a training is doing, on one line: the pass over the log, rows a second, the loss, the time that is left of all
 * passes, and the lag, which is the records that this pass has still to read.
 */
export class ProgressLine {
  private readonly out: NodeJS.WriteStream;
  private readonly now: () => number;
  private epoch = -1;
  private begun = 0;
  private written = -Infinity;
  /** Whether the cursor stands behind a line. */
  private open = false;

  constructor(out: NodeJS.WriteStream = process.stderr, now: () => number = () => performance.now()) {
    this.out = out;
    this.now = now;
  }

  /** The first call of the survey and of an epoch writes a line; then it is a matter of time. */
  show(progress: StreamProgress): void {
    const now = this.now();
    const first = this.epoch < 0 || (this.epoch === 0 && progress.epoch > 0);
    if (progress.epoch !== this.epoch) this.begun = now;
    this.epoch = progress.epoch;
    if (!first && now - this.written < (this.out.isTTY ? TERMINAL_MS : FILE_MS)) return;
    this.written = now;
    const line = progressText(progress, (now - this.begun) / 1000);
    // Back to the beginning of the line, and away with what is behind the new text.
    this.out.write(this.out.isTTY ? `\r${line}\u001b[K` : `${line}\n`);
    this.open = this.out.isTTY;
  }

  /** So that what is written next stands on a line of its own. */
  end(): void {
    if (this.open) this.out.write('\n');
    this.open = false;
  }
}

/** `seconds`: since this pass began. */
export function progressText(
  { epoch, epochs, rows, rowsExpected, records, recordsLeft, loss }: StreamProgress,
  seconds: number,
): string {
  const pass = epoch === 0 ? 'survey' : `epoch ${epoch} of ${epochs}`;
  // Rows wait to be mixed, so that an epoch goes on when all records have been read.
  const done = epoch === 0 ? 1 - recordsLeft / Math.max(1, records) : Math.min(1, rows / rowsExpected);
  const left = (seconds / Math.max(done, 1e-9)) * (1 - done + epochs - epoch);
  return [
    `${pass.padEnd(14)} ${`${Math.floor(100 * done)} %`.padStart(5)}`,
    ...(seconds < RATE_SECONDS ? [] : [`${Math.round(rows / seconds).toLocaleString('en')} rows/s`]),
    ...(Number.isNaN(loss) ? [] : [`loss ${loss.toPrecision(4)}`]),
    // Of the survey nobody knows yet how long an epoch takes.
    ...(epoch === 0 || done === 0 || seconds < RATE_SECONDS ? [] : [`${duration(left)} left`]),
    `lag ${recordsLeft.toLocaleString('en')} records`,
  ].join(' · ');
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
