import { Kafka, logLevel } from 'kafkajs';
import { OFFSETS_PARTITIONS } from './node-properties.ts';

/**
 * Whether this node (by its listener without security) serves: it knows a controller and itself and these others as
 * registered, and all group coordinators answer. A line in its log would say less.
 */
export async function serves(hostAndPort: string, ids: number[]): Promise<boolean> {
  const kafka = new Kafka({
    brokers: [hostAndPort],
    logLevel: logLevel.NOTHING,
    connectionTimeout: 2000,
    requestTimeout: 5000,
    retry: { retries: 0 },
  });
  const admin = kafka.admin();
  try {
    await admin.connect();
    const { brokers, controller } = await admin.describeCluster();
    const registered = new Set(brokers.map((broker) => broker.nodeId));
    if (controller === null || !ids.every((id) => registered.has(id))) return false;
    // The coordinator of a group is the leader of partition hashCode(group) % OFFSETS_PARTITIONS.
    for (let i = 0; i < OFFSETS_PARTITIONS; i++)
      await admin.fetchOffsets({ groupId: String.fromCharCode(97 + i), topics: [] });
    return true;
  } catch {
    return false;
  } finally {
    await admin.disconnect();
  }
}
