/**
 * What cars and operators ask of the registry: a real `cardan-cloud registry` process on a log and a fleet in files, at a
 * real Mosquitto, polled by wrk. Every car shows its own token and is noted as seen. One JSON line per figure.
 *
 *   node --import tsx bench/distribution.ts [--seconds N] [--cpu-prof DIR]
 *
 * Needs Linux, Mosquitto and wrk. What is missing is said and left out.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ChildGuard } from '../ops/child-guard.ts';
import { startMosquitto } from '../ops/mosquitto/start-mosquitto.ts';
import { benchCarId } from './parts/bench-car.ts';
import { printFigure } from './parts/figure.ts';
import { orSkip } from './parts/or-skip.ts';
import { cpuSecondsOf, memoryOf, needProc } from './parts/process-cpu.ts';
import { publishModel, SIGNALS } from './parts/published-model.ts';
import { type RegistryProcess, startRegistryProcess } from './parts/registry-process.ts';
import { needWrk, wrkPolls } from './parts/wrk.ts';

const CONNECTIONS = 16;
const FEW = 10_000;
const MANY = 100_000;
const OPERATOR = 'operator-token-of-the-bench';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '8' }, 'cpu-prof': { type: 'string' } },
});
const seconds = Number(values.seconds);
const profile = values['cpu-prof'];

await orSkip('the distribution API', async () => {
  needProc();
  await needWrk();
  const dir = mkdtempSync(join(tmpdir(), 'cardan-bench-'));
  const guard = new ChildGuard(dir);
  try {
    await measure(dir, guard);
  } finally {
    await guard.close();
    rmSync(dir, { recursive: true, force: true });
  }
});

async function measure(dir: string, guard: ChildGuard): Promise<void> {
  const mosquitto = await startMosquitto();
  try {
    writeFileSync(join(dir, 'token'), OPERATOR);
    const registry = await startRegistryProcess(guard, {
      dir,
      mqttUrl: mosquitto.url,
      args: ['--token-file', join(dir, 'token'), '--vehicle-identity', 'required'],
      nodeArgs: profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`],
    });
    await publishModel(registry.url, '1', OPERATOR);
    await register(registry, 0, FEW);
    await quiet(registry);
    const generation = await generationOf(registry);
    await poll(registry, dir, 'distribution_poll_idle', FEW, generation);
    await poll(registry, dir, 'distribution_poll_open', FEW, '0');
    await register(registry, FEW, MANY);
    await quiet(registry);
    await poll(registry, dir, 'distribution_poll_idle', MANY, generation);
    await poll(registry, dir, 'distribution_poll_open', MANY, '0');
    const { rss, peak } = memoryOf(registry.pid);
    printFigure({
      bench: 'distribution_memory',
      value: rss / 1e6,
      unit: 'MB',
      peak_mb: peak / 1e6,
      vehicles: MANY,
    });
    await registry.stop();
  } finally {
    await mosquitto.stop();
  }
}

async function register({ url, pid }: RegistryProcess, from: number, to: number): Promise<void> {
  const lines: string[] = [];
  for (let number = from; number < to; number++) {
    const id = benchCarId(number);
    const tokenSha256 = createHash('sha256').update(`token-of-${id}`).digest('hex');
    const attributes = { region: `region-${number % 16}`, year: String(2015 + (number % 11)), trim: 'base' };
    lines.push(JSON.stringify({ id, attributes, signalSet: SIGNALS.id, tokenSha256 }));
  }
  const body = lines.join('\n');
  const cpu = cpuSecondsOf(pid);
  const begin = performance.now();
  const answer = await fetch(`${url}/v1/vehicles`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/x-ndjson', authorization: `Bearer ${OPERATOR}` },
  });
  const { created } = (await answer.json()) as { created?: number };
  const passed = (performance.now() - begin) / 1000;
  if (created !== to - from) throw new Error(`${created ?? answer.status} of ${to - from} were registered.`);
  printFigure({
    bench: 'distribution_register',
    value: passed,
    unit: 's',
    vehicles: to - from,
    cpu_us_per_item: ((cpuSecondsOf(pid) - cpu) * 1e6) / (to - from),
  });
}

async function poll(
  { url, pid }: RegistryProcess,
  dir: string,
  bench: string,
  vehicles: number,
  etag: string,
): Promise<void> {
  const wrk = (seconds: number) =>
    wrkPolls({ url, dir, vehicles, signalSet: SIGNALS.id, etag, connections: CONNECTIONS, seconds });
  // Until V8 has optimised what is hot.
  await wrk(2);
  const cpu = cpuSecondsOf(pid);
  const { requests, perSecond, p50Ms, p99Ms, maxMs, errors } = await wrk(seconds);
  const cpuUs = ((cpuSecondsOf(pid) - cpu) * 1e6) / requests;
  if (errors > 0) throw new Error(`${errors} of ${requests} polls failed.`);
  printFigure({
    bench,
    value: perSecond,
    unit: 'requests/s',
    cpu_us_per_item: cpuUs,
    p50_ms: p50Ms,
    p99_ms: p99Ms,
    max_ms: maxMs,
    vehicles,
    connections: CONNECTIONS,
  });
}

/** Waits until it has nothing to do any more: after a registration every car is told over MQTT what it should have. */
async function quiet({ pid }: RegistryProcess): Promise<void> {
  for (let before = cpuSecondsOf(pid); ;) {
    await pause(500);
    const now = cpuSecondsOf(pid);
    if (now - before < 0.05) return;
    before = now;
  }
}

async function generationOf({ url }: RegistryProcess): Promise<string> {
  const answer = await fetch(`${url}/v1/vehicles/${benchCarId(0)}/desired`, {
    headers: { authorization: `Bearer token-of-${benchCarId(0)}` },
  });
  return String(((await answer.json()) as { generation: number }).generation);
}
