/** Slots of one vehicle at the most: their pairs, which a trend looks at, are eight thousand then. */
const SLOTS_MAX = 128;
/** Width of a slot at first. Ten minutes of driving even the noise of a score out. */
const WIDTH_MS = 600_000;
/** A slot with fewer values says little. */
const VALUES_MIN = 30;

/** Means over slots of time, in the order of time. */
export interface SlotMeans {
  /** Mean time of the values in a slot, milliseconds since 1970. */
  times: number[];
  means: number[];
  /** Width of a slot, milliseconds. */
  widthMs: number;
}

interface Slot {
  count: number;
  times: number;
  values: number;
}

/**
 * The history of one number in bounded memory: means over slots of equal width. When there are too many, two become one
 * and the slots are twice as wide from then on, so that the whole history stays in view, only coarser. Values may come in
 * any order.
 */
export class TimeSlots {
  private slots = new Map<number, Slot>();
  private widthMs = WIDTH_MS;

  /** Takes a value at a time (milliseconds since 1970); one that is not finite is passed over. */
  add(time: number, value: number): void {
    if (!Number.isFinite(value)) return;
    this.put(Math.floor(time / this.widthMs), { count: 1, times: time, values: value });
    while (this.slots.size > SLOTS_MAX) this.halve();
  }

  get means(): SlotMeans {
    const full = [...this.slots.values()]
      .filter(({ count }) => count >= VALUES_MIN)
      .sort((a, b) => a.times / a.count - b.times / b.count);
    return {
      times: full.map(({ times, count }) => times / count),
      means: full.map(({ values, count }) => values / count),
      widthMs: this.widthMs,
    };
  }

  private put(place: number, { count, times, values }: Slot): void {
    const slot = this.slots.get(place);
    if (slot === undefined) this.slots.set(place, { count, times, values });
    else {
      slot.count += count;
      slot.times += times;
      slot.values += values;
    }
  }

  private halve(): void {
    const narrow = this.slots;
    this.slots = new Map();
    this.widthMs *= 2;
    for (const [place, slot] of narrow) this.put(Math.floor(place / 2), slot);
  }
}
