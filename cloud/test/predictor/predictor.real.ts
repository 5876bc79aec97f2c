import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { ensureLogTopics, Scorer } from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { startRegistry } from '../../src/distribution/start-registry.ts';
import { Predictor } from '../../src/predictor/predictor.ts';
import { RegistryClient } from '../../src/registry-client.ts';
import { removeTempDirs, tempDir } from '../registry/registry-fixture.ts';
import {
  linesOf,
  predictions,
  publish,
  rowCount,
  rows,
  scoringModel,
  telemetry,
} from './predictor-fixture.ts';

let log: EventLog;
let registry: string;
let topicPrefix: string;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  topicPrefix = `${randomUUID()}.`;
  log = await connection();
  await ensureLogTopics(log);
  const service = await startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:9', // nobody: models go nowhere here
    dir: tempDir(),
    host: '127.0.0.1',
    port: 0,
    onProblem: () => undefined,
  });
  closing.push(() => service.close());
  registry = service.url;
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  removeTempDirs();
});

async function connection(): Promise<EventLog> {
  const opened = await openEventLog(`kafka:${inject('kafkaBrokers')}`, { topicPrefix });
  closing.push(() => opened.close());
  return opened;
}

async function predictor(): Promise<Predictor> {
  const started = await Predictor.start({ log: await connection(), registry: new RegistryClient(registry) });
  closing.push(() => started.close());
  return started;
}

it(
  'on Kafka, too, predictors come and go, and the scores are those of one that has seen everything',
  { timeout: 120_000 },
  async () => {
    const scoring = scoringModel('1');
    await publish(registry, scoring);
    const vehicles = Array.from({ length: 12 }, (_, i) => `car-${i}`);
    let sent = 0;
    const drive = async () => {
      await log.append(
        'telemetry',
        vehicles.map((vehicle) => telemetry(vehicle, sent + 1, 10)),
      );
      sent += 10;
      return predictions(log, (all) => rowCount(all) >= sent * vehicles.length);
    };
    const first = await predictor();
    await drive();
    const second = await predictor();
    await drive();
    await first.close();
    await drive();
    await second.close();
    await predictor();
    const all = await drive();
    for (const vehicle of vehicles) {
      const { times, values } = rows(vehicle, 1, sent);
      const scores = new Scorer(scoring.model).pushRows(times, values);
      expect(linesOf(all, vehicle)).toEqual(Array.from(scores, (score, i) => `${i + 1} v1 ${score}`));
    }
  },
);
