import { randomUUID } from 'node:crypto';
import {
  CardanError,
  cloudEvent,
  eventToRecord,
  parseCloudEvent,
  parseMqttTopic,
  parseSignalSet,
  reportRecord,
  type ErrorCode,
  type LogTopic,
  type VehicleReported,
} from '@cardan/shared';
import type { NewRecord } from '@cardan/shared/event-log';
import { BRIDGE_DEFAULTS } from './config.ts';
import { decompressed } from './decompress.ts';
import { telemetrySpan } from './telemetry-span.ts';

/** What a vehicle is told when its record is in the log. */
export interface VehicleAck {
  vehicle: string;
  epoch: number;
  stream: 'rows' | 'events';
  first: number;
  last: number;
}

/** A message of a vehicle as a record of the log. */
export interface VehicleRecord {
  topic: LogTopic;
  record: NewRecord;
  /** Rows of telemetry in it. */
  rows: number;
  ack: VehicleAck | undefined;
}

/** The channels that the bridge carries. */
export const CHANNELS = ['telemetry', 'event', 'reported', 'status'] as const;
export type Channel = (typeof CHANNELS)[number];

/** What an MQTT topic means. */
export interface VehicleTopic {
  vehicle: string;
  channel: Channel;
  /** `source` of its CloudEvents. */
  source: string;
}

/** A message that is not what its topic says. `ack` is there when the vehicle can still be told to keep it no longer. */
export class UnreadableMessage extends Error {
  readonly error: CardanError;
  readonly ack: VehicleAck | undefined;

  constructor(error: CardanError, ack?: VehicleAck) {
    super(error.message);
    this.error = error;
    this.ack = ack;
  }
}

/** Makes records of what vehicles send. */
export class MessageReader {
  private readonly now: () => number;
  private readonly topics = new Map<string, VehicleTopic>();

  constructor(now: () => number) {
    this.now = now;
  }

  /** The vehicle and channel of an MQTT topic; undefined when it is none of a vehicle. */
  topicOf(mqttTopic: string): VehicleTopic | undefined {
    const known = this.topics.get(mqttTopic);
    if (known !== undefined) return known;
    const parsed = parseMqttTopic(mqttTopic);
    const channel = CHANNELS.find((name) => name === parsed?.channel);
    if (parsed === undefined || channel === undefined) return undefined;
    const topic = { vehicle: parsed.vehicle, channel, source: `/vehicles/${parsed.vehicle}` };
    if (this.topics.size >= BRIDGE_DEFAULTS.topicsMax) this.topics.clear();
    this.topics.set(mqttTopic, topic);
    return topic;
  }

  /**
   * The record that a message becomes; undefined for one that says nothing (a retained message was deleted).
   * Throws UnreadableMessage when it is not what its topic says.
   */
  read(from: VehicleTopic | undefined, mqttTopic: string, payload: Buffer): VehicleRecord | undefined {
    if (from === undefined)
      throw malformed(`"${mqttTopic}" is no topic of a vehicle: its id has forbidden characters.`);
    try {
      switch (from.channel) {
        case 'telemetry':
          return telemetryRecord(from, payload);
        case 'event':
          return eventRecord(from, payload);
        case 'status':
          return payload.length === 0 ? undefined : this.statusRecord(from, mqttTopic, payload);
        case 'reported':
          return payload.length === 0 ? undefined : this.reportedRecord(from, mqttTopic, payload);
      }
    } catch (error) {
      throw error instanceof CardanError ? new UnreadableMessage(error) : error;
    }
  }

  /** A message that the log cannot have as what it should be: as it came, with the reason in the headers. */
  deadLetter(
    mqttTopic: string,
    payload: Uint8Array | null,
    { code, message }: { code: ErrorCode; message: string },
    ack?: VehicleAck,
  ): VehicleRecord {
    return {
      topic: 'dead-letters',
      record: {
        key: parseMqttTopic(mqttTopic)?.vehicle ?? null,
        value: payload,
        timestamp: this.now(),
        headers: { 'mqtt-topic': mqttTopic, 'error-code': code, 'error-message': message },
      },
      rows: 0,
      ack,
    };
  }

  private statusRecord({ vehicle, source }: VehicleTopic, mqttTopic: string, payload: Buffer): VehicleRecord {
    const { online } = (parseJson(mqttTopic, payload) ?? {}) as { online?: unknown };
    if (typeof online !== 'boolean') throw malformed(`"${mqttTopic}" has no boolean "online".`);
    const event = cloudEvent(
      'io.cardan.vehicle.status',
      { source, id: randomUUID(), time: this.now() },
      { online },
    );
    return { topic: 'vehicle-events', record: eventToRecord(vehicle, event), rows: 0, ack: undefined };
  }

  private reportedRecord({ vehicle }: VehicleTopic, mqttTopic: string, payload: Buffer): VehicleRecord {
    const reported = (parseJson(mqttTopic, payload) ?? {}) as VehicleReported;
    const record = reportRecord(vehicle, payload, reported, this.now());
    return { topic: 'vehicle-events', record, rows: 0, ack: undefined };
  }
}

function malformed(message: string, cause?: unknown): UnreadableMessage {
  return new UnreadableMessage(new CardanError('EVENT_MALFORMED', message, { cause }));
}

function parseJson(mqttTopic: string, payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'));
  } catch (cause) {
    throw malformed(`"${mqttTopic}" is not JSON.`, cause);
  }
}

function telemetryRecord({ vehicle, source }: VehicleTopic, payload: Buffer): VehicleRecord {
  const value = decompressed(payload);
  const { epoch, firstSequence: first, rows, lastTime: timestamp } = telemetrySpan(value);
  const last = first + rows - 1;
  return {
    topic: 'telemetry',
    record: {
      key: vehicle,
      value,
      // The time of the newest row: a reader that begins at a time then also gets the batch that straddles it.
      timestamp,
      headers: {
        ce_specversion: '1.0',
        ce_type: 'io.cardan.telemetry',
        ce_source: source,
        ce_id: `${epoch}-${first}-${last}`,
        ce_time: new Date(timestamp).toISOString(),
        'content-type': 'application/protobuf',
      },
    },
    rows,
    ack: { vehicle, epoch, stream: 'rows', first, last },
  };
}

function eventRecord({ vehicle, source }: VehicleTopic, payload: Buffer): VehicleRecord {
  const event = parseCloudEvent(payload);
  if (event.source !== source)
    throw malformed(`Event ${event.id} of ${event.source} came on the topic of ${vehicle}.`);
  const epoch = Number(event.outboxepoch);
  const sequence = Number(event.sequence);
  const ack: VehicleAck | undefined =
    Number.isSafeInteger(epoch) && Number.isSafeInteger(sequence)
      ? { vehicle, epoch, stream: 'events', first: sequence, last: sequence }
      : undefined;
  if (event.type !== 'io.cardan.signal-set')
    return { topic: 'vehicle-events', record: eventToRecord(vehicle, event), rows: 0, ack };
  try {
    const { id } = parseSignalSet(event.data);
    return { topic: 'signal-sets', record: eventToRecord(id, event), rows: 0, ack };
  } catch (error) {
    // It is surely this vehicle's event, and will never be better: its outbox may go on.
    throw error instanceof CardanError ? new UnreadableMessage(error, ack) : error;
  }
}
