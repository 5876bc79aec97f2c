import { inject, expect, it } from 'vitest';
import { Kafka, logLevel } from 'kafkajs';
import mqtt from 'mqtt';

it('gives a Kafka and a Mosquitto that serve', async () => {
  const admin = new Kafka({ brokers: [inject('kafkaBrokers')], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  expect((await admin.describeCluster()).brokers).toHaveLength(1);
  await admin.disconnect();
  const client = await mqtt.connectAsync(inject('mosquittoUrl'));
  await client.endAsync();
});
