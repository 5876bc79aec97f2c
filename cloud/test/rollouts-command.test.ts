import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { cloudEvent, eventToRecord } from '@cardan/shared';
import { COLUMNS, publish, testModel } from './registry/model-fixture.ts';
import { tempDir, type TestRegistry, closeRegistries, openRegistry } from './registry/registry-fixture.ts';
import { runCommand } from './run-command.ts';

afterEach(closeRegistries);

const rollouts = (args: string[], input?: string) => runCommand(['rollouts', ...args], input);

/** A registry with two versions, the second of which all vehicles should run, and some vehicles. */
async function registry(): Promise<TestRegistry> {
  const service = await openRegistry();
  await publish(service.url, testModel('1'));
  await publish(service.url, testModel('2'));
  const vehicles = Array.from({ length: 8 }, (_, i) => `van-${i}`);
  const boots = vehicles.map((vehicle) => {
    const attributes = { source: `/vehicles/${vehicle}`, id: '1', time: Date.now() };
    const boot = cloudEvent('io.cardan.vehicle.boot', attributes, { agent: 'test', signalSet: COLUMNS.id });
    return eventToRecord(vehicle, boot);
  });
  await service.log.append('vehicle-events', boots);
  return service;
}

test(
  'a rollout is made, listed, paused, resumed, stopped and explained from the command line',
  { timeout: 90_000 },
  async () => {
    const at = ['--registry', (await registry()).url];
    const made = ['create', '--model', 'anomaly@1', '--filter', 'id==van-*', ...at];
    expect(await rollouts(made)).toMatchObject({ code: 0, err: 'rollout anomaly-1 is running\n' });
    // Once more is fine.
    expect((await rollouts(made)).code).toBe(0);
    expect((await rollouts(['list', ...at])).out).toMatch(/^ROLLOUT .*\nanomaly-1 +running +shadow /);
    expect((await rollouts(['pause', 'anomaly-1', '--reason', 'lunch', ...at])).err).toBe(
      'rollout anomaly-1 is paused\n',
    );
    expect((await rollouts(['pause', 'anomaly-1', ...at])).err).toContain('ROLLOUT_STATE');
    expect((await rollouts(['resume', 'anomaly-1', ...at])).code).toBe(0);
    expect(JSON.parse((await rollouts(['show', 'anomaly-1', ...at])).out)).toMatchObject({
      status: 'running',
      champion: { name: 'anomaly', version: '2' },
      now: {
        findings: [{ gate: 'evidence', verdict: expect.any(String) as string }, {}, {}, {}, {}, {}, {}],
      },
    });
    expect((await rollouts(['stop', 'anomaly-1', ...at])).code).toBe(0);
    const story = (await rollouts(['explain', 'anomaly-1', ...at])).out;
    for (const line of [
      /^\S+Z {2}created by \S+: model anomaly 1$/m,
      /for vehicles with id==van-\*, weight 0, without approval, a gate that fails means rollback$/m,
      /stage shadow begins, compared with anomaly 2 \(generation 3\)$/m,
      /paused by \S+: lunch$/m,
      /stopped by /m,
    ])
      expect(story).toMatch(line);
  },
);

test('a plan from a file waits for its approval', { timeout: 60_000 }, async () => {
  const at = ['--registry', (await registry()).url];
  const plan = join(tempDir(), 'plan.json');
  writeFileSync(
    plan,
    JSON.stringify({
      approval: true,
      stages: [
        { name: 'canary', percent: 10 },
        { name: 'all', rate: { perMinute: 20, doublingMinutes: 10 } },
      ],
    }),
  );
  const made = await rollouts(['create', '--model', 'anomaly@1', '--plan', plan, '--id', 'back', ...at]);
  expect(made.err).toBe('rollout back is created\n');
  expect((await rollouts(['approve', 'back', ...at])).err).toBe('rollout back is running\n');
});

test('what is wrong is said with its place', { timeout: 60_000 }, async () => {
  const at = ['--registry', (await registry()).url];
  const refused = async (...args: string[]) => {
    const { code, err } = await rollouts([...args, ...at]);
    expect(code).toBeGreaterThan(0);
    return err;
  };
  expect(await refused('create', '--model', 'anomaly@1', '--filter', 'id==')).toContain('FILTER_INVALID');
  expect(await refused('create', '--model', 'anomaly@9')).toContain('MODEL_UNKNOWN');
  expect(await refused('create', '--model', 'anomaly@2')).toContain('is what vehicles should run already');
  expect(await refused('create', '--model', 'anomaly')).toContain('NAME@VERSION');
  expect(await refused('create')).toContain('of a model or of a campaign');
  expect(await refused('show', 'nothing')).toContain('ROLLOUT_UNKNOWN');
});
