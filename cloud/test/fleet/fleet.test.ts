import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { cloudEvent, eventToRecord, reportRecord, type VehicleReported } from '@cardan/shared';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { Fleet } from '../../src/fleet/fleet.ts';
import type { Vehicle } from '../../src/fleet/vehicle.ts';

const closing: (() => Promise<unknown>)[] = [];
const dirs: string[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

const NOW = Date.parse('2026-03-01T12:00:00Z');
const SET = 'a'.repeat(16);
const OTHER_SET = 'b'.repeat(16);

function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-fleet-'));
  dirs.push(dir);
  return dir;
}

async function openLog(dir: string): Promise<SqliteEventLog> {
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  closing.push(() => log.close());
  return log;
}

async function openFleet(log: SqliteEventLog, dir: string): Promise<Fleet> {
  const fleet = await Fleet.open({
    log,
    dir,
    clock: () => NOW,
    onProblem: (problem) => {
      throw problem;
    },
  });
  closing.push(() => fleet.close());
  return fleet;
}

async function all(fleet: Fleet): Promise<Vehicle[]> {
  const vehicles: Vehicle[] = [];
  for await (const page of fleet.pages('', 2)) vehicles.push(...page);
  return vehicles;
}

let events = 0;
function boot(vehicle: string, signalSet: string) {
  const at = { source: `/vehicles/${vehicle}`, id: `e${events++}`, time: NOW - 1000 };
  return eventToRecord(vehicle, cloudEvent('io.cardan.vehicle.boot', at, { agent: '1', signalSet }));
}
function status(vehicle: string, online: boolean) {
  const at = { source: `/vehicles/${vehicle}`, id: `e${events++}`, time: NOW - 500 };
  return eventToRecord(vehicle, cloudEvent('io.cardan.vehicle.status', at, { online }));
}
function report(vehicle: string, version: string) {
  const reported: VehicleReported = {
    time: new Date(NOW - 200).toISOString(),
    observedGeneration: 3,
    active: { name: 'anomaly', version },
    phase: 'idle',
    error: null,
    signalSet: SET,
    agent: {
      version: '0.1.0',
      outboxRows: 0,
      dropped: { rows: 0, events: 0 },
      frames: { received: 0, unknown: 0, malformed: 0 },
    },
  };
  return reportRecord(vehicle, JSON.stringify(reported), reported, NOW);
}

test('what operators and cars say of a vehicle comes together', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const fleet = await openFleet(log, dir);
  expect(
    await fleet.register([{ id: 'van-1', attributes: { region: 'north' }, signalSet: OTHER_SET }], 'test'),
  ).toEqual({ created: 1, changed: 0, unchanged: 0 });
  expect(fleet.vehicle('van-1')).toEqual({
    id: 'van-1',
    signalSet: OTHER_SET,
    attributes: { region: 'north' },
    registeredAt: '2026-03-01T12:00:00.000Z',
    lastSeen: null,
    online: null,
    reported: null,
  });
  await log.append('vehicle-events', [boot('van-1', SET), status('van-1', true), report('van-1', '7')]);
  await expect.poll(() => fleet.vehicle('van-1').reported).not.toBe(null);
  expect(fleet.vehicle('van-1')).toMatchObject({
    signalSet: SET,
    lastSeen: '2026-03-01T11:59:59.800Z',
    online: true,
    reported: { active: { name: 'anomaly', version: '7' }, candidate: null, agentVersion: '0.1.0' },
  });
});

test('registering again changes only what differs, and what is wrong is named', async () => {
  const dir = tempDir();
  const fleet = await openFleet(await openLog(dir), dir);
  const many = Array.from({ length: 2500 }, (_, i) => ({ id: `car-${i}`, attributes: { n: String(i) } }));
  expect(await fleet.register(many, 'test')).toEqual({ created: 2500, changed: 0, unchanged: 0 });
  many[7]!.attributes.n = 'seven';
  expect(await fleet.register(many, 'test')).toEqual({ created: 0, changed: 1, unchanged: 2499 });
  expect(fleet.size).toBe(2500);
  await expect(fleet.register([{ id: 'car-x' }, { id: 'no/slash' }], 'test')).rejects.toMatchObject({
    code: 'VEHICLE_INVALID',
    message: expect.stringContaining('Vehicle 2') as string,
  });
  for (const wrong of [
    { id: 'a', attributes: { n: 1 } },
    { id: 'a', attributes: { 'bad name': '' } },
    { id: 'a', colour: 'red' },
    { id: 'a', signalSet: 'short' },
    { id: 'a', tokenSha256: 'secret' },
    ['a'],
    null,
  ])
    await expect(fleet.register([wrong], 'test')).rejects.toMatchObject({ code: 'VEHICLE_INVALID' });
  expect(fleet.size).toBe(2500);
});

test('a change takes attributes and leaves the others', async () => {
  const dir = tempDir();
  const fleet = await openFleet(await openLog(dir), dir);
  await fleet.register([{ id: 'car-1', attributes: { region: 'north', year: '2020' } }], 'test');
  const changed = await fleet.change('car-1', { attributes: { region: null, trim: 'sport' } }, 'test');
  expect(changed.attributes).toEqual({ year: '2020', trim: 'sport' });
  await expect(fleet.change('car-2', {}, 'test')).rejects.toMatchObject({ code: 'VEHICLE_UNKNOWN' });
});

test('listeners hear which vehicles are others now, and not of what changes nothing for them', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const fleet = await openFleet(log, dir);
  const heard: string[] = [];
  fleet.onChange((changed) => heard.push([...changed].sort().join(' ')));
  await fleet.register([{ id: 'car-1' }, { id: 'car-2' }], 'test');
  await log.append('vehicle-events', [status('car-1', true)]);
  await log.append('vehicle-events', [boot('car-2', SET)]);
  await expect.poll(() => heard.at(-1)).toBe('car-2');
  await fleet.remove('car-1', 'test');
  expect(heard.filter((ids) => ids === 'car-1').length).toBeGreaterThan(0);
  expect(() => fleet.vehicle('car-1')).toThrow('There is no vehicle car-1');
});

test('a removed vehicle that says something again is there again, without its past', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const fleet = await openFleet(log, dir);
  await fleet.register(
    [{ id: 'car-1', attributes: { region: 'north' }, tokenSha256: '0'.repeat(64) }],
    'test',
  );
  await log.append('vehicle-events', [boot('car-1', SET)]);
  await expect.poll(() => fleet.vehicle('car-1').lastSeen).not.toBe(null);
  await fleet.remove('car-1', 'test');
  expect(fleet.size).toBe(0);
  await log.append('vehicle-events', [status('car-1', true)]);
  await expect.poll(() => fleet.size).toBe(1);
  expect(fleet.vehicle('car-1')).toMatchObject({
    signalSet: null,
    attributes: {},
    registeredAt: null,
    online: true,
  });
  expect(fleet.polling('car-1')?.tokenSha256).toBe(null);
});

test('replay gives the same fleet as the life before, whatever happened in which order', async () => {
  const ids = fc.constantFrom('car-1', 'car-2', 'van-1');
  const step = fc.oneof(
    fc.record({ does: fc.constant('register'), id: ids, value: fc.constantFrom('north', 'south') }),
    fc.record({ does: fc.constant('change'), id: ids, value: fc.constantFrom('east', null) }),
    fc.record({ does: fc.constant('remove'), id: ids, value: fc.constant(null) }),
    fc.record({ does: fc.constant('boot'), id: ids, value: fc.constantFrom(SET, OTHER_SET) }),
    fc.record({ does: fc.constant('report'), id: ids, value: fc.constantFrom('1', '2') }),
    fc.record({ does: fc.constant('status'), id: ids, value: fc.constantFrom('on', 'off') }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const dir = tempDir();
      const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
      const options = { log, dir, clock: () => NOW, onProblem: () => undefined };
      let fleet = await Fleet.open(options);
      const known = (error: unknown) => expect(error).toMatchObject({ code: 'VEHICLE_UNKNOWN' });
      for (const { does, id, value } of steps) {
        if (does === 'register') await fleet.register([{ id, attributes: { region: value } }], 'test');
        else if (does === 'change')
          await fleet.change(id, { attributes: { region: value } }, 'test').catch(known);
        else if (does === 'remove') await fleet.remove(id, 'test').catch(known);
        else if (does === 'boot') await log.append('vehicle-events', [boot(id, value)]);
        else if (does === 'report') await log.append('vehicle-events', [report(id, value)]);
        else await log.append('vehicle-events', [status(id, value === 'on')]);
      }
      // Opened again it has read everything.
      await fleet.close();
      fleet = await Fleet.open(options);
      const lived = await all(fleet);
      await fleet.close();
      for (const suffix of ['', '-wal', '-shm']) rmSync(join(dir, `fleet.db${suffix}`), { force: true });
      fleet = await Fleet.open(options);
      expect(await all(fleet)).toEqual(lived);
      await fleet.close();
      await log.close();
    }),
    { numRuns: 25 },
  );
});

test('a file that is damaged, or of another log, is made anew', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const first = await openFleet(log, dir);
  await first.register([{ id: 'car-1' }], 'test');
  await closing.pop()!();
  writeFileSync(join(dir, 'fleet.db'), 'not a database '.repeat(1000));
  const second = await openFleet(log, dir);
  expect((await all(second)).map(({ id }) => id)).toEqual(['car-1']);
  await closing.pop()!();

  const otherLog = await openLog(tempDir());
  await otherLog.createTopic('vehicles', { partitions: 1 });
  const other = await openFleet(otherLog, tempDir());
  await other.register([{ id: 'car-9' }], 'test');
  const third = await openFleet(otherLog, dir);
  expect((await all(third)).map(({ id }) => id)).toEqual(['car-9']);
});

test('a second process on the same folder is refused, and takes nothing from the first', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const fleet = await openFleet(log, dir);
  await fleet.register([{ id: 'car-1' }], 'test');
  await expect(openFleet(log, dir)).rejects.toMatchObject({ code: 'DATA_DIR_NOT_WRITABLE' });
  await fleet.register([{ id: 'car-2' }], 'test');
  expect((await all(fleet)).map(({ id }) => id)).toEqual(['car-1', 'car-2']);
});

test('records that say nothing sensible are passed over and counted', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const fleet = await openFleet(log, dir);
  const said = (type: string, data: unknown) => ({
    key: 'car-1',
    value: Buffer.from(JSON.stringify(data)),
    timestamp: NOW,
    headers: { ce_specversion: '1.0', ce_type: type, ce_source: '/x', ce_id: `e${events++}` },
  });
  await log.append('vehicles', [
    said('io.cardan.vehicle.registered', null),
    said('io.cardan.vehicle.registered', { attributes: { n: 1 } }),
    said('io.cardan.vehicle.removed', { eventsUntil: null }),
    said('io.cardan.vehicle.changed', { attributes: 'all' }),
    { key: 'a/b', value: null, timestamp: NOW },
  ]);
  await log.append('vehicle-events', [
    said('io.cardan.vehicle.reported', { observedGeneration: 'new', signalSet: SET }),
    said('io.cardan.vehicle.boot', {}),
  ]);
  await fleet.register([{ id: 'car-2' }], 'test');
  await expect.poll(() => fleet.malformed).toBe(7);
  expect((await all(fleet)).map(({ id }) => id)).toEqual(['car-2']);
  await log.append('vehicles', [said('io.cardan.vehicle.registered', { signalSet: SET })]);
  await fleet.register([{ id: 'car-3' }], 'test');
  expect(fleet.vehicle('car-1')).toMatchObject({ signalSet: SET, attributes: {} });
});
