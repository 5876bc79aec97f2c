import { BATCH_ROWS_MAX, decodeTelemetry } from '@cardan/shared';

/** What the bridge must know of a `TelemetryBatch`. */
export interface TelemetrySpan {
  epoch: number;
  firstSequence: number;
  rows: number;
  /** Time of the newest row, milliseconds since 1970. */
  lastTime: number;
}

/** Bytes of a number that all have one meaning: 2^53 takes eight. */
const VARINT_BYTES_MAX = 8;
/** The last time that a Date can hold. */
const TIME_MAX = 8.64e15;

/**
 * The span of a telemetry batch, without taking its values out. It is read in one pass; whatever is not as senders
 * write it (fields unknown, too long, out of bounds) goes to `decodeTelemetry`, whose word counts.
 * Throws TELEMETRY_MALFORMED.
 */
export function telemetrySpan(bytes: Uint8Array): TelemetrySpan {
  const quick = quickSpan(bytes);
  if (quick !== undefined) return quick;
  const { epoch, firstSequence, times } = decodeTelemetry(bytes);
  return { epoch, firstSequence, rows: times.length, lastTime: times[times.length - 1]! };
}

/** Fields as in shared/proto/telemetry.proto; undefined when anything is unusual. */
function quickSpan(bytes: Uint8Array): TelemetrySpan | undefined {
  const end = bytes.length;
  let at = 0;
  let epoch = 0;
  let firstSequence = 0;
  let time = 0;
  let deltasAt = 0;
  let deltasEnd = 0;
  let signalSetBytes = 0;
  let valuesBytes = 0;
  let scoresBytes = 0;

  while (at < end) {
    const tag = bytes[at++]!;
    let value = 0;
    let scale = 1;
    const valueEnd = at + VARINT_BYTES_MAX;
    for (;;) {
      if (at === end || at === valueEnd) return undefined;
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 0x80;
    }
    // The low three bits: 0 is a number, 2 a length and that many bytes.
    if ((tag & 7) === 0) {
      if (value > Number.MAX_SAFE_INTEGER) return undefined;
      if (tag === 0x10) epoch = value;
      else if (tag === 0x18) firstSequence = value;
      else if (tag === 0x20) time = value;
      else return undefined;
      continue;
    }
    if (value > end - at) return undefined;
    if (tag === 0x0a) signalSetBytes = value;
    else if (tag === 0x2a) {
      deltasAt = at;
      deltasEnd = at + value;
    } else if (tag === 0x32 && value % 4 === 0) valuesBytes = value;
    else if (tag === 0x3a && value % 4 === 0) scoresBytes = value;
    else if (tag !== 0x42 && tag !== 0x4a && tag !== 0x52) return undefined;
    at += value;
  }

  let rows = 0;
  for (let i = deltasAt; i < deltasEnd; rows++) {
    let delta = 0;
    let scale = 1;
    const deltaEnd = i + VARINT_BYTES_MAX;
    for (;;) {
      if (i === deltasEnd || i === deltaEnd) return undefined;
      const byte = bytes[i++]!;
      delta += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 0x80;
    }
    time += delta;
  }
  if (rows === 0 || rows > BATCH_ROWS_MAX || !(time <= TIME_MAX) || signalSetBytes === 0) return undefined;
  if (valuesBytes === 0 || valuesBytes % (4 * rows) !== 0) return undefined;
  if (scoresBytes !== 0 && scoresBytes !== 4 * rows) return undefined;
  return { epoch, firstSequence, rows, lastTime: time };
}
