import { CardanError } from '../errors.ts';
import type { NewRecord, TopicConfig, TopicInfo } from './event-log.ts';

/** What every adapter refuses, in the same words: the mistakes of a caller, which no log would take. */

/** Kafka's rule for names of topics. */
const TOPIC_NAME = /^[A-Za-z0-9._-]{1,249}$/;
const RECORDS_MAX_DEFAULT = 1000;
/** Bounds the rows that one read takes into memory. */
const RECORDS_MAX_MAX = 100_000;
/** Most milliseconds since 1970 that a Date can hold. */
const TIMESTAMP_MAX = 8.64e15;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Throws USAGE unless a topic can have this name and this many partitions. */
export function checkTopic(topic: string, { partitions }: TopicConfig, partitionsMax: number): void {
  if (!TOPIC_NAME.test(topic) || topic === '.' || topic === '..')
    throw new CardanError(
      'USAGE',
      `"${topic}" cannot be a topic. Use 1 to 249 of the characters A-Z a-z 0-9 . _ -`,
    );
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > partitionsMax)
    throw new CardanError('USAGE', `A topic has 1 to ${partitionsMax} partitions, not ${partitions}.`);
}

export function checkSubscription(group: string, topics: readonly string[]): void {
  if (group === '' || topics.length === 0)
    throw new CardanError('USAGE', 'A subscription needs the name of a group and at least one topic.');
}

export function checkRecordsMax(recordsMax = RECORDS_MAX_DEFAULT): number {
  if (Number.isInteger(recordsMax) && recordsMax > 0) return Math.min(recordsMax, RECORDS_MAX_MAX);
  throw new CardanError('USAGE', `recordsMax is a whole number from 1, not ${recordsMax}.`);
}

/** Throws USAGE unless the record, the `index`th of an append, can go to the topic. */
export function checkRecord(
  record: NewRecord,
  index: number,
  topic: Pick<TopicInfo, 'topic' | 'compacted'>,
): void {
  const { key, value, timestamp, headers } = record;
  let why: string | undefined;
  if (key === null && topic.compacted) why = 'a compacted topic needs keys';
  else if (key !== null && (typeof key !== 'string' || LONE_SURROGATE.test(key)))
    why = 'its key is not Unicode text';
  else if (value !== null && !(value instanceof Uint8Array)) why = 'its value is not bytes';
  else if (!Number.isInteger(timestamp) || timestamp < 0 || timestamp > TIMESTAMP_MAX)
    why = `its timestamp ${timestamp} is not whole milliseconds since 1970`;
  else if (headers !== undefined && !hasTextsOnly(headers)) why = 'a header is not a string';
  if (why === undefined) return;
  throw new CardanError(
    'USAGE',
    `Record ${index} cannot go to topic "${topic.topic}": ${why}. Nothing was appended.`,
  );
}

function hasTextsOnly(headers: Readonly<Record<string, unknown>>): boolean {
  for (const name of Object.keys(headers)) if (typeof headers[name] !== 'string') return false;
  return true;
}
