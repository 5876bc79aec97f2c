import type { Campaign } from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';

/** Frames in one event: about 20 kB of text, a small MQTT message. */
const FRAMES_MAX = 500;
/** Frames wait for more at most this long, by the time of the frames. */
const WAIT_MS = 5000;

/** Gathers the raw frames of campaigns into pieces of candump's log format, which every CAN tool reads. */
export class FrameRecorder {
  private readonly onFull: (
    campaign: Campaign,
    candump: string,
    frames: { time: number; count: number },
  ) => void;
  private readonly open = new Map<Campaign, { time: number; lines: string[] }>();

  /** `onFull` gets the lines, how many, and the time of the first, milliseconds since 1970. */
  constructor(onFull: FrameRecorder['onFull']) {
    this.onFull = onFull;
  }

  add(campaign: Campaign, frame: CanFrame): void {
    let piece = this.open.get(campaign);
    if (piece === undefined) this.open.set(campaign, (piece = { time: frame.time, lines: [] }));
    piece.lines.push(candumpLine(frame));
    if (piece.lines.length >= FRAMES_MAX) this.close(campaign, piece);
  }

  /** Time goes on, also without frames of a campaign. */
  advance(time: number): void {
    for (const [campaign, piece] of this.open)
      if (Math.abs(time - piece.time) >= WAIT_MS) this.close(campaign, piece);
  }

  flush(): void {
    for (const [campaign, piece] of this.open) this.close(campaign, piece);
  }

  private close(campaign: Campaign, { time, lines }: { time: number; lines: string[] }): void {
    this.open.delete(campaign);
    this.onFull(campaign, lines.join('\n'), { time, count: lines.length });
  }
}

/** As `candump -L` writes it. Which of several buses it was on is not known here. */
function candumpLine({ time, id, extended, fd, data }: CanFrame): string {
  const digits = id
    .toString(16)
    .toUpperCase()
    .padStart(extended ? 8 : 3, '0');
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex').toUpperCase();
  return `(${(time / 1000).toFixed(6)}) can ${digits}${fd ? '##0' : '#'}${bytes}`;
}
