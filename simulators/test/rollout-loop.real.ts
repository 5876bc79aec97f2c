import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, inject, test } from 'vitest';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { rolloutLoop } from './rollout-loop-fixture.ts';

let dir: string;
let log: EventLog;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-loop-'));
  log = await openEventLog(`kafka:${inject('kafkaBrokers')}`, { topicPrefix: `${randomUUID()}.` });
});
afterEach(async () => {
  await log.close();
  rmSync(dir, { recursive: true, force: true });
});

test('a rollout goes the same way through Kafka and Mosquitto', { timeout: 300_000 }, () =>
  rolloutLoop({ dir, log, mqttUrl: inject('mosquittoUrl') }),
);
