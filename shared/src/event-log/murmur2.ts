const SEED = 0x9747b28c | 0;
const M = 0x5bd1e995;

/**
 * MurmurHash2 (Austin Appleby) with the seed of Kafka's Java client
 * (`org.apache.kafka.common.utils.Utils.murmur2`), as a signed 32-bit number.
 */
export function murmur2(data: Uint8Array): number {
  const length = data.length;
  const words = length & ~3;
  let h = SEED ^ length;
  for (let i = 0; i < words; i += 4) {
    let k = byte(data, i) | (byte(data, i + 1) << 8) | (byte(data, i + 2) << 16) | (byte(data, i + 3) << 24);
    k = Math.imul(k, M);
    k ^= k >>> 24;
    h = Math.imul(h, M) ^ Math.imul(k, M);
  }
  const rest = length - words;
  if (rest >= 3) h ^= byte(data, words + 2) << 16;
  if (rest >= 2) h ^= byte(data, words + 1) << 8;
  if (rest >= 1) h = Math.imul(h ^ byte(data, words), M);
  h = Math.imul(h ^ (h >>> 13), M);
  return h ^ (h >>> 15);
}

/**
 * Partition of a key, the one that Kafka's own clients choose: `toPositive(murmur2(utf8)) % partitions`,
 * where `toPositive` clears the sign bit.
 */
export function partitionOf(key: string, partitions: number): number {
  return (murmur2(Buffer.from(key, 'utf8')) & 0x7fffffff) % partitions;
}

/** The callers stay within the array, so there is always a byte. */
function byte(data: Uint8Array, index: number): number {
  return data[index]!;
}
