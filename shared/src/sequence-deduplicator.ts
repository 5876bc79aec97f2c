/**
 * Outboxes remembered per vehicle, the most recent ones. A vehicle gets a new one when its disk is replaced
 * or wiped; rows of the fifth last would count as fresh if they were delivered again.
 */
const EPOCHS_MAX = 4;

/**
 * Ranges remembered per outbox. Deliveries out of order leave gaps only until the missing batch is in, and
 * rows that a full outbox dropped leave one gap each time. Beyond this the lowest range is forgotten: rather
 * a duplicate that is kept than a row that is lost.
 */
const RANGES_MAX = 1024;

/** What a deduplicator knows, as JSON: per vehicle its epochs, oldest use first, with their seen ranges. */
export interface DeduplicatorSnapshot {
  dropped: number;
  vehicles: [vehicle: string, epochs: [epoch: number, ranges: number[]][]][];
}

/**
 * Delivery is at least once; readers of the log drop what they have seen, here and nowhere else. A row is
 * named for good by (vehicle, outbox epoch, sequence). What has been seen is kept as ranges that grow
 * together, so memory follows the gaps, not the rows: two numbers for a healthy vehicle.
 */
export class SequenceDeduplicator {
  readonly #vehicles = new Map<string, Map<number, Ranges>>();
  #dropped = 0;

  /** Rows that had been seen before. */
  get dropped(): number {
    return this.#dropped;
  }

  /**
   * Takes in `count` rows from the sequence number `first` on, and returns which of them are new: indexes
   * within the batch, `to` exclusive, rising. `[[0, count]]` for a batch not seen before, `[]` for a copy.
   */
  fresh(vehicle: string, epoch: number, first: number, count: number): [from: number, to: number][] {
    const fresh = this.#ranges(vehicle, epoch).add(first, first + count);
    let rows = 0;
    for (const range of fresh) {
      rows += range[1] - range[0];
      range[0] -= first;
      range[1] -= first;
    }
    this.#dropped += count - rows;
    return fresh;
  }

  /**
   * Notes rows that the reader has no use for, such as those of a campaign: left out, each would be a gap
   * between those of use.
   */
  skip(vehicle: string, epoch: number, first: number, count: number): void {
    this.#ranges(vehicle, epoch).add(first, first + count);
  }

  /** Everything that is known, to go on from there later. */
  snapshot(): DeduplicatorSnapshot {
    const vehicles = [...this.#vehicles].map(
      ([vehicle, epochs]): DeduplicatorSnapshot['vehicles'][number] => [
        vehicle,
        [...epochs].map(([epoch, ranges]) => [epoch, ranges.toArray()]),
      ],
    );
    return { dropped: this.#dropped, vehicles };
  }

  static restore(snapshot: DeduplicatorSnapshot): SequenceDeduplicator {
    const restored = new SequenceDeduplicator();
    restored.#dropped = snapshot.dropped;
    for (const [vehicle, epochs] of snapshot.vehicles)
      restored.#vehicles.set(vehicle, new Map(epochs.map(([epoch, bounds]) => [epoch, new Ranges(bounds)])));
    return restored;
  }

  #ranges(vehicle: string, epoch: number): Ranges {
    let epochs = this.#vehicles.get(vehicle);
    if (epochs === undefined) this.#vehicles.set(vehicle, (epochs = new Map<number, Ranges>()));
    const ranges = epochs.get(epoch) ?? new Ranges();
    // A Map keeps the order of insertion: the epoch in use goes to the end, the first one is the oldest.
    epochs.delete(epoch);
    epochs.set(epoch, ranges);
    if (epochs.size > EPOCHS_MAX) epochs.delete(epochs.keys().next().value ?? epoch);
    return ranges;
  }
}

/** A set of whole numbers as sorted ranges with gaps between them. */
class Ranges {
  /** from, to, from, to, …; `to` is exclusive. */
  readonly #bounds: number[];

  constructor(bounds: readonly number[] = []) {
    this.#bounds = [...bounds];
  }

  toArray(): number[] {
    return [...this.#bounds];
  }

  /** Adds the numbers from `from` up to `to` (exclusive); returns those that were not in yet, as ranges. */
  add(from: number, to: number): [number, number][] {
    if (to <= from) return [];
    const bounds = this.#bounds;
    // Almost every batch goes on where the one before ended.
    if (bounds.at(-1) === from) {
      bounds[bounds.length - 1] = to;
      return [[from, to]];
    }
    // The ranges from `begin` up to `end` overlap the new one or touch it, and become one with it.
    const begin = this.#firstEndingFrom(from);
    let end = begin;
    let low = from;
    let high = to;
    let at = from;
    const fresh: [number, number][] = [];
    for (; end < bounds.length; end += 2) {
      const rangeFrom = bounds[end] ?? 0;
      const rangeTo = bounds[end + 1] ?? 0;
      if (rangeFrom > to) break;
      if (rangeFrom > at) fresh.push([at, rangeFrom]);
      at = Math.max(at, rangeTo);
      low = Math.min(low, rangeFrom);
      high = Math.max(high, rangeTo);
    }
    if (at < to) fresh.push([at, to]);
    bounds.splice(begin, end - begin, low, high);
    if (bounds.length > 2 * RANGES_MAX) bounds.splice(0, 2);
    return fresh;
  }

  /** Index in `bounds` of the first range whose end is not before `value`. */
  #firstEndingFrom(value: number): number {
    let low = 0;
    let high = this.#bounds.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#bounds[2 * middle + 1] ?? 0) < value) low = middle + 1;
      else high = middle;
    }
    return 2 * low;
  }
}
