import type { StreamProgress } from './streamed-fit.ts';

/** On a terminal the line is drawn anew this often; elsewhere a new one is written. */
const TERMINAL_MS = 200;
const FILE_MS = 5000;

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
  /** Records a second of the passes that count for the time left. */
  private open = false;

  constructor(out: NodeJS.WriteStream = process.stderr, now: () => number = () => performance.now()) {
    this.out = out;
    this.now = now;
  }

  /** The first call of each pass writes a line; then it is a matter of time. */
  show(progress: StreamProgress): void {
    const now = this.now();
    const first = progress.epoch !== this.epoch;
    if (first) {
      this.epoch = progress.epoch;
      this.begun = now;
    }
    const every = this.out.isTTY ? TERMINAL_MS : FILE_MS;
    if (!first && now - this.written < every && progress.recordsLeft > 0) return;
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
  { epoch, epochs, rows, records, recordsLeft, loss }: StreamProgress,
  seconds: number,
): string {
  const read = records - recordsLeft;
  const pass = epoch === 0 ? 'survey' : `epoch ${epoch} of ${epochs}`;
  const passesLeft = epoch === 0 ? epochs : epochs - epoch;
  const perRecord = seconds / Math.max(1, read);
  const left = perRecord * (recordsLeft + passesLeft * records);
  return [
    `${pass.padEnd(14)} ${percent(read, records)}`,
    `${Math.round(rows / Math.max(seconds, 1e-3)).toLocaleString('en')} rows/s`,
    ...(Number.isNaN(loss) ? [] : [`loss ${loss.toPrecision(4)}`]),
    // Of the survey nobody knows yet how long an epoch takes.
    ...(epoch === 0 || read === 0 ? [] : [`${duration(left)} left`]),
    `lag ${recordsLeft.toLocaleString('en')} records`,
  ].join(' · ');
}

function percent(part: number, all: number): string {
  return `${Math.floor((100 * part) / Math.max(1, all))} %`.padStart(5);
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
