import type { CanFrame } from '../can/can-frame.ts';

/** More ids than any vehicle has; a broken adapter could make up half a billion. */
const IDS_MAX = 10_000;

export interface SeenId {
  id: number;
  extended: boolean;
  frames: number;
  /** Bytes of its shortest frame. */
  shortest: number;
}

/** What was heard on all buses, by id. */
export class Traffic {
  readonly ids = new Map<number, SeenId>();
  frames = 0;
  /** The longest that a bus was heard, by the times of its frames. */
  spanMs = 0;

  add({ id, extended, data }: CanFrame): void {
    this.frames++;
    const key = extended ? id + 2 ** 29 : id;
    const seen = this.ids.get(key);
    if (seen !== undefined) {
      seen.frames++;
      seen.shortest = Math.min(seen.shortest, data.length);
    } else if (this.ids.size < IDS_MAX) this.ids.set(key, { id, extended, frames: 1, shortest: data.length });
  }

  listened(ms: number): void {
    this.spanMs = Math.max(this.spanMs, ms);
  }
}
