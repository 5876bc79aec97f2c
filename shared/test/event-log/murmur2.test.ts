import { describe, expect, it } from 'vitest';
import { murmur2, partitionOf } from '../../src/event-log/murmur2.ts';

/** Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2. */
const KAFKA: Record<string, number> = {
  '21': -973932308,
  foobar: -790332482,
  'a-little-bit-long-string': -985981536,
  'a-little-bit-longer-string': -1486304829,
  lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8: -58897971,
  abc: 479470107,
};

/** kafkajs, src/producer/partitioners/default/murmur2.spec.js (at 55b0b41). */
const KAFKAJS: Record<string, number> = {
  '0': 971027396,
  '1': -1993445489,
  '128': -326012175,
  '2187': -1508407203,
  '16384': -325739742,
  '78125': -1654490814,
  '279936': 1462227128,
  '823543': -2014198330,
  '2097152': 607668903,
  '4782969': -1182699775,
  '10000000': -1830336757,
  '19487171': -1603849305,
  '35831808': -857013643,
  '62748517': -1167431028,
  '105413504': -381294639,
  '170859375': -1658323481,
  '100:48069': 1009543857,
};

/** Akka, akka-cluster-sharding-typed, Murmur2Spec.scala: every length of the rest. */
const AKKA: Record<string, number> = {
  '12': 126087238,
  '123': -267702483,
  '1234': -1614185708,
  '12345': -1188365604,
};

describe('murmur2', () => {
  const vectors = Object.entries({ ...KAFKA, ...KAFKAJS, ...AKKA });

  it.each(vectors)('hashes %s as the Java client does', (key, hash) => {
    expect(murmur2(Buffer.from(key))).toBe(hash);
  });

  it.each(vectors)('chooses the partition of %s as the Java client does', (key, hash) => {
    // Utils.toPositive: `number & 0x7fffffff`, on BigInt so as not to repeat the code under test.
    const positive = BigInt.asUintN(31, BigInt(hash));
    for (const partitions of [1, 2, 6, 50])
      expect(partitionOf(key, partitions)).toBe(Number(positive % BigInt(partitions)));
  });

  it('hashes bytes over 127 unsigned, as UTF-8', () => {
    expect(partitionOf('é', 1_000_003)).toBe((murmur2(Uint8Array.of(0xc3, 0xa9)) & 0x7fffffff) % 1_000_003);
  });
});
