import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, inject, test } from 'vitest';
import { cloudEvent, eventToRecord } from '@cardan/shared';
import { openEventLog } from '@cardan/shared/event-log';
import { Fleet } from '../../src/fleet/fleet.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

test('on Kafka the fleet goes on where its file ends, and is the same when made anew', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-fleet-'));
  closing.push(() => rmSync(dir, { recursive: true, force: true }));
  const log = await openEventLog(`kafka:${inject('kafkaBrokers')}`, {
    topicPrefix: `fleet-${randomUUID()}-`,
  });
  closing.push(() => log.close());
  const problems: unknown[] = [];
  const opened = () => Fleet.open({ log, dir, onProblem: (problem) => problems.push(problem) });
  const ids = async (fleet: Fleet) => {
    const found: string[] = [];
    for await (const page of fleet.pages()) found.push(...page.map(({ id }) => id));
    return found;
  };

  let fleet = await opened();
  await fleet.register([{ id: 'car-1' }, { id: 'car-2', attributes: { region: 'north' } }], 'test');
  await fleet.remove('car-1', 'test');
  await fleet.close();
  const event = cloudEvent(
    'io.cardan.vehicle.boot',
    { source: '/vehicles/car-3', id: '1-1', time: Date.now() },
    { agent: '1', signalSet: 'a'.repeat(16) },
  );
  await log.append('vehicle-events', [eventToRecord('car-3', event)]);
  fleet = await opened();
  expect(await ids(fleet)).toEqual(['car-2', 'car-3']);
  await fleet.close();
  rmSync(join(dir, 'fleet.db'));
  fleet = await opened();
  closing.push(() => fleet.close());
  expect(await ids(fleet)).toEqual(['car-2', 'car-3']);
  expect(fleet.vehicle('car-2').attributes).toEqual({ region: 'north' });
  expect(problems).toEqual([]);
});
