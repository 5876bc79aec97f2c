import { CardanError } from './errors.ts';

/**
 * What the bridge sends a vehicle on its `ack` topic once an append has resolved: the sequence numbers that are
 * in the log. Ranges, both ends inclusive, not a high-water mark: several bridges share the load, and none of
 * them sees a whole vehicle.
 */
export interface Ack {
  epoch: number;
  rows: [first: number, last: number][];
  events: [first: number, last: number][];
}

/** Parses an ack; throws EVENT_MALFORMED. */
export function parseAck(bytes: Uint8Array): Ack {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new CardanError('EVENT_MALFORMED', 'An acknowledgement is not JSON.', { cause });
  }
  const { epoch, rows, events } = (value ?? {}) as Partial<Ack>;
  if (!Number.isSafeInteger(epoch) || !isRanges(rows) || !isRanges(events))
    throw new CardanError(
      'EVENT_MALFORMED',
      'An acknowledgement needs "epoch", "rows" and "events" with ranges.',
    );
  return { epoch: epoch!, rows, events };
}

function isRanges(value: unknown): value is [number, number][] {
  return (
    Array.isArray(value) &&
    value.every(
      (range: unknown) =>
        Array.isArray(range) &&
        range.length === 2 &&
        range.every(Number.isSafeInteger) &&
        range[0] <= range[1],
    )
  );
}
