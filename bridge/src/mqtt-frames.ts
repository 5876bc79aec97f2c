import { mqttTopic } from '@cardan/shared';
import type { VehicleAck } from './vehicle-message.ts';

/**
 * Packets of MQTT 3.1.1 (4) or 5 that say what is in the log, in one buffer, as most of what a message costs is a
 * write of its own: PUBACK for each message that came with QoS 1, in the order in which they came, and one
 * acknowledgement (PUBLISH with QoS 0 on `cardan/v1/{vehicle}/ack`) for each vehicle.
 */
export function encodeReceipts(
  version: 4 | 5,
  messageIds: readonly number[],
  acks: readonly (VehicleAck | undefined)[],
): Buffer {
  let frames = '';
  for (const id of messageIds) frames += `\x40\x02${uint16(id)}`;
  for (const [vehicle, payload] of payloadsOf(acks)) {
    const topic = mqttTopic(vehicle, 'ack');
    // MQTT 5 has properties after the topic: none.
    const body = `${uint16(topic.length)}${topic}${version === 5 ? '\0' : ''}${payload}`;
    frames += `\x30${remainingLength(body.length)}${body}`;
  }
  // Ids of vehicles are ASCII, so every character is one byte.
  return Buffer.from(frames, 'latin1');
}

/** What each vehicle is told, as JSON (`Ack`); neighbouring ranges become one. */
function payloadsOf(acks: readonly (VehicleAck | undefined)[]): Map<string, string> {
  const vehicles = new Map<string, { epoch: number; rows: number[]; events: number[] }>();
  for (const ack of acks) {
    if (ack === undefined) continue;
    let told = vehicles.get(ack.vehicle);
    if (told === undefined) {
      told = { epoch: ack.epoch, rows: [], events: [] };
      vehicles.set(ack.vehicle, told);
    }
    if (told.epoch !== ack.epoch) continue; // of an outbox before this one; if it is still there it sends again
    const ranges = told[ack.stream];
    if (ranges.at(-1) === ack.first - 1) ranges[ranges.length - 1] = ack.last;
    else ranges.push(ack.first, ack.last);
  }
  const payloads = new Map<string, string>();
  for (const [vehicle, { epoch, rows, events }] of vehicles)
    payloads.set(vehicle, `{"epoch":${epoch},"rows":${pairs(rows)},"events":${pairs(events)}}`);
  return payloads;
}

function pairs(ranges: readonly number[]): string {
  let text = '';
  for (let i = 0; i < ranges.length; i += 2) text += `${i === 0 ? '' : ','}[${ranges[i]!},${ranges[i + 1]!}]`;
  return `[${text}]`;
}

function uint16(value: number): string {
  return String.fromCharCode(value >> 8, value & 0xff);
}

function remainingLength(length: number): string {
  let bytes = '';
  let rest = length;
  for (; rest >= 0x80; rest >>= 7) bytes += String.fromCharCode((rest & 0x7f) | 0x80);
  return bytes + String.fromCharCode(rest);
}
