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
import { loadavg, tmpdir } from 'node:os';
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
const FLEETS = [10_000, 100_000];
const OPERATOR = 'operator-token-of-the-bench';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '8' }, 'cpu-prof': { type: 'string' } },
});
const seconds = Number(values.seconds);
const profile = values['cpu-prof'];

await orSkip('the distribution API', async () => {
  needProc();
  await needWrk();
  // Each with a registry of its own: what the first has learnt or left lying would be in the figures of the second.
  for (const vehicles of FLEETS) {
    const dir = mkdtempSync(join(tmpdir(), 'cardan-bench-'));
    const guard = new ChildGuard(dir);
    const mosquitto = await startMosquitto();
    try {
      await measure(dir, guard, mosquitto.url, vehicles);
    } finally {
      await mosquitto.stop();
      await guard.close();
      rmSync(dir, { recursive: true, force: true });
    }
  }
});

async function measure(dir: string, guard: ChildGuard, mqttUrl: string, vehicles: number): Promise<void> {
  writeFileSync(join(dir, 'token'), OPERATOR);
  const registry = await startRegistryProcess(guard, {
    dir,
    mqttUrl,
    args: [
      ...['--token-file', join(dir, 'token')],
      ...['--vehicle-identity', 'required', '--rollouts', 'manual'],
    ],
    nodeArgs: profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`],
  });
  await publishModel(registry.url, '1', OPERATOR);
  await register(registry, vehicles);
  await quiet(registry);
  await poll(registry, dir, 'distribution_poll_idle', vehicles, await generationOf(registry));
  await poll(registry, dir, 'distribution_poll_open', vehicles, '0');
  await rollOut(registry, vehicles);
  await quiet(registry);
  await poll(registry, dir, 'distribution_poll_open_rollout', vehicles, '0');
  const { rss, peak } = memoryOf(registry.pid);
  printFigure({ bench: 'distribution_memory', value: rss / 1e6, unit: 'MB', peak_mb: peak / 1e6, vehicles });
  await registry.stop();
}

async function register({ url, pid }: RegistryProcess, vehicles: number): Promise<void> {
  const lines: string[] = [];
  for (let number = 0; number < vehicles; number++) {
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
  if (created !== vehicles) throw new Error(`${created ?? answer.status} of ${vehicles} were registered.`);
  printFigure({
    bench: 'distribution_register',
    value: passed,
    unit: 's',
    vehicles,
    cpu_us_per_item: ((cpuSecondsOf(pid) - cpu) * 1e6) / vehicles,
  });
}

/** A new version in ten groups over all vehicles, from the request until the first group is under way. */
async function rollOut({ url, pid }: RegistryProcess, vehicles: number): Promise<void> {
  await publishModel(url, '2', OPERATOR);
  const stages = Array.from({ length: 10 }, (_, i) => ({ name: `group-${i + 1}`, percent: (i + 1) * 10 }));
  const cpu = cpuSecondsOf(pid);
  const begin = performance.now();
  const answer = await fetch(`${url}/v1/rollouts`, {
    method: 'POST',
    body: JSON.stringify({ model: { name: 'anomaly', version: '2' }, stages }),
    headers: { 'content-type': 'application/json', authorization: `Bearer ${OPERATOR}` },
  });
  const { status, stage } = (await answer.json()) as { status?: string; stage?: number };
  const passed = (performance.now() - begin) / 1000;
  if (status !== 'running' || stage !== 0) throw new Error(`The rollout is ${status ?? answer.status}.`);
  printFigure({
    bench: 'distribution_rollout',
    value: passed,
    unit: 's',
    cpu_us_per_item: ((cpuSecondsOf(pid) - cpu) * 1e6) / vehicles,
    vehicles,
    groups: stages.length,
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
    // What else runs on the machine is in the times: more than the number of cores is a crowd.
    load: loadavg()[0],
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
