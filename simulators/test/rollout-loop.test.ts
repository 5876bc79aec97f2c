import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'vitest';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { startAedes, type AedesBroker } from '../../bridge/test/aedes-broker.ts';
import { rolloutLoop } from './rollout-loop-fixture.ts';

let dir: string;
let log: EventLog;
let broker: AedesBroker;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-loop-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  broker = await startAedes();
});
afterEach(async () => {
  await broker.close();
  await log.close();
  rmSync(dir, { recursive: true, force: true });
});

test(
  'a good version reaches all cars by shadow and groups; the next, which fails in the cars, none',
  { timeout: 180_000 },
  () => rolloutLoop({ dir, log, mqttUrl: broker.url }),
);
