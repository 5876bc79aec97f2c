import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Car, CAR_DBC_PATH } from '../src/car.ts';
import type { DemoSummary } from '../src/demo-options.ts';
import { record } from './record.ts';

const COMMAND = fileURLToPath(new URL('../bin/cardan-sim.js', import.meta.url));
let temp: string;
beforeAll(() => {
  temp = mkdtempSync(join(tmpdir(), 'demo-test-'));
});
afterAll(() => rmSync(temp, { recursive: true }));

/** Runs the command to its end, with its temporary folder in a place of our own. */
async function run(args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [COMMAND, ...args], { env: { ...process.env, TMPDIR: temp } });
  let out = '';
  let err = '';
  child.stdout.on('data', (data: Buffer) => (out += data.toString('utf8')));
  child.stderr.on('data', (data: Buffer) => (err += data.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}

describe('npm start -- --once', () => {
  it(
    'closes the loop twice with three cars, loses no row, finds the fault, and cleans up',
    { timeout: 200_000 },
    async () => {
      const { code, out, err } = await run([
        'demo',
        '--once',
        '--vehicles',
        '3',
        '--port',
        '0',
        '--timeout',
        '180',
      ]);
      const summary = JSON.parse(out.trim().split('\n').at(-1) ?? '') as DemoSummary;
      expect(summary, err).toMatchObject({
        loop: 'closed',
        vehicles: 3,
        log: 'sqlite',
        rows: { lost: 0 },
        faults: { injected: 1, detected: 1 },
      });
      expect(code).toBe(0);
      expect(summary.rows.sent).toBeGreaterThan(3 * 600);
      expect(summary.rows.in_log).toBe(summary.rows.sent);
      expect(summary.models.map(({ version, installed }) => [version, installed])).toEqual([
        ['1', 3],
        ['2', 3],
      ]);
      const [first, second] = summary.models;
      expect(first?.trained_rows).toBe(first?.lineage.rows);
      expect(second?.lineage.parent).toEqual({ name: first?.name, version: '1' });
      for (const [partition, { to }] of Object.entries(first?.lineage.offsets ?? {}))
        expect(second?.lineage.offsets[partition]?.to).toBeGreaterThanOrEqual(to);
      expect(second?.lineage.rowsExcluded).toBeGreaterThan(0); // the fault is not learnt as normal
      expect(readdirSync(temp).filter((name) => name.startsWith('cardan-'))).toEqual([]);
    },
  );

  it('lets a recording drive along, with a model of its own', { timeout: 200_000 }, async () => {
    const recording = join(temp, 'trip.log');
    const start = Date.UTC(2026, 0, 7, 8);
    await record(recording, new Car({ id: 'trip', seed: 9, startTime: start }), start, start + 15 * 60_000);
    const args = ['demo', '--once', '--vehicles', '2', '--faults', 'none', '--port', '0', '--timeout', '180'];
    const { code, out, err } = await run([...args, '--replay', recording, '--dbc', CAR_DBC_PATH]);
    const summary = JSON.parse(out.trim().split('\n').at(-1) ?? '') as DemoSummary;
    expect(summary, err).toMatchObject({ loop: 'closed', rows: { lost: 0 }, faults: { injected: 0 } });
    expect(code).toBe(0);
    // Without a map the recording's signals have their DBC names: another signal set, another model.
    const byCars = summary.models.map(({ version, installed, lineage }) => [
      version,
      installed,
      lineage.vehicles,
    ]);
    expect(byCars.sort()).toEqual([
      ['1', 1, 1],
      ['1', 2, 2],
      ['2', 2, 2],
    ]);
  });

  it('says so when the port of the page is taken', async () => {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const { code, out, err } = await run(['demo', '--once', '--vehicles', '1', '--port', String(port)]);
    server.close();
    expect(code).toBe(1);
    expect(err).toMatch(`error PORT_IN_USE: Port ${port}`);
    expect(err).not.toMatch(/^\s+at /m);
    expect(out).toBe('');
  });

  it.each([
    [['demo', '--vehicles', 'many'], 2, /whole number/],
    [['demo', '--faults', 'flat-tyre'], 2, /there is no fault "flat-tyre"/],
    [['demo', '--vehicles', '2', '--faults', '3'], 2, /0 to 2/],
    [['demo', '--replay', 'trip.log'], 2, /needs both the recording and its DBC/],
    [['nonsense'], 2, /too many arguments/],
  ])('refuses %j with a message', async (args, expected, message) => {
    const { code, err } = await run(args);
    expect(code).toBe(expected);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/^\s+at /m);
  });

  it('says so when the data folder cannot be written to', async () => {
    const file = join(temp, 'a-file');
    writeFileSync(file, '');
    const { code, err } = await run(['demo', '--once', '--data', join(file, 'below')]);
    expect(code).toBe(1);
    expect(err).toMatch(/error DATA_DIR_NOT_WRITABLE: .*--data/);
  });
});
