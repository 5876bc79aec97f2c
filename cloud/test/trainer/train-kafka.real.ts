import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { registryOnKafka, type RegistryOnKafka } from '../registry-on-kafka.ts';
import { interruptTraining, runCommand } from '../run-command.ts';
import { modelBytes } from './model-bytes.ts';
import { drive, SET } from './telemetry-fixture.ts';

/** `cardan-cloud train` on a real Kafka: a span of time, some partitions, stopped and taken up again, made again. */
const VEHICLES = ['v1', 'v2', 'v3', 'v4', 'v5', 'v6', 'v7', 'v8'];
const ROWS = 600;
/** The data's own time; it has nothing to do with that of the test. */
const BEGIN_S = Date.UTC(2026, 0, 1) / 1000;
const iso = (seconds: number) => new Date((BEGIN_S + seconds) * 1000).toISOString();
const NAME = `anomaly-${SET.id}`;

let kafka: RegistryOnKafka;

beforeAll(async () => {
  kafka = await registryOnKafka('v1', SET);
  // Before and after the span there is driving, too, and the last of it came first, as from a car that was in a tunnel.
  for (const first of [2 * ROWS, 0, ROWS]) await driveAll(first);
});
afterAll(() => kafka.close());

async function driveAll(first: number): Promise<void> {
  const records = [];
  for (let at = first; at < first + ROWS; at += 50)
    for (const vehicle of VEHICLES) records.push(drive(vehicle, at, 50, { beginS: BEGIN_S }));
  await kafka.log.append('telemetry', records);
}

function config(yaml: string): string {
  const path = join(kafka.dir, 'model.yaml');
  writeFileSync(path, yaml);
  return path;
}

it('trains on the rows of a span of time, and of some partitions, and the lineage makes the same bytes again', async () => {
  const { dir, env, log } = kafka;
  const yaml = config('epochs: 3\n');
  const checkpoint = join(dir, 'a.checkpoint');
  const span = ['--from', iso(ROWS), '--to', iso(2 * ROWS)];
  const trained = await runCommand(['train', ...span, '--config', yaml, '--checkpoint', checkpoint], '', env);
  expect(trained).toMatchObject({ code: 0, err: expect.stringContaining('published') as string });
  expect(trained.err).toContain('Mahalanobis');
  expect(JSON.parse(trained.out)).toMatchObject({
    name: NAME,
    version: '1',
    rows: VEHICLES.length * ROWS,
    vehicles: VEHICLES.length,
    span: { from: iso(ROWS), to: iso(2 * ROWS - 1) },
  });

  const [one, two] = (await log.offsets('telemetry')).filter(({ latest }) => latest > 0);
  const some = ['--partitions', `${one!.partition},${two!.partition}`];
  const part = await runCommand(['train', ...some, '--config', yaml, '--checkpoint', checkpoint], '', env);
  expect(part.code).toBe(0);
  expect(JSON.parse(part.out)).toMatchObject({ version: '2', rows: 50 * (one!.latest + two!.latest) });

  // What has come since is no part of it.
  await driveAll(3 * ROWS);
  const again = await runCommand(['models', 'reproduce', NAME, '1'], '', env);
  expect(again.code).toBe(0);
});

it('is stopped by SIGINT, saves what it has, and goes on to the bytes of an undisturbed one', async () => {
  const { dir, env } = kafka;
  const yaml = config('epochs: 40\nhyperParameters: {patience: 1000}\n');
  const flags = (out: string, ...more: string[]) => [
    ...['train', '--from', iso(0), '--to', iso(ROWS), '--config', yaml],
    ...['--checkpoint', join(dir, `${out}.checkpoint`), '--out', join(dir, out), ...more],
  ];
  expect((await runCommand(flags('whole'), '', env)).code).toBe(0);

  const { code, err } = await interruptTraining(flags('parts'), env);
  expect(err).toMatch(/stopped in epoch \d+, after \d+ of its rows/);
  expect(code).toBe(130);
  expect(existsSync(join(dir, 'parts'))).toBe(false);
  await driveAll(4 * ROWS);

  expect((await runCommand(flags('parts', '--resume'), '', env)).code).toBe(0);
  expect(modelBytes(join(dir, 'parts'))).toEqual(modelBytes(join(dir, 'whole')));
});
