/**
 * How long a new model takes to a fleet: 1,000 cars with the agent's own updater, in four processes, at a real
 * `cardan-cloud registry` and a real Mosquitto, all on this machine. The clock runs from the moment at which somebody
 * begins to publish until the last car has verified, stored, loaded and tested the model. One JSON line per figure.
 *
 *   node --import tsx bench/fleet-update.ts [--vehicles N]
 *
 * Needs Linux and Mosquitto. What is missing is said and left out.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ChildGuard } from '../ops/child-guard.ts';
import { startMosquitto } from '../ops/mosquitto/start-mosquitto.ts';
import { Arrivals } from './parts/arrivals.ts';
import { benchCarId } from './parts/bench-car.ts';
import { median, printFigure } from './parts/figure.ts';
import { orSkip } from './parts/or-skip.ts';
import { cpuSecondsOf, needProc } from './parts/process-cpu.ts';
import { publishModel, SIGNALS } from './parts/published-model.ts';
import { type RegistryProcess, startRegistryProcess } from './parts/registry-process.ts';
import type { UpdatedLine } from './parts/updaters-process.ts';

const PROCESSES = 4;
const TOKEN = 'operator-token-of-the-bench';
const CARS = fileURLToPath(new URL('./parts/updaters-process.ts', import.meta.url));

const { values } = parseArgs({ options: { vehicles: { type: 'string', default: '1000' } } });
const vehicles = Number(values.vehicles);

await orSkip('the update of a fleet', async () => {
  needProc();
  const dir = mkdtempSync(join(tmpdir(), 'cardan-bench-'));
  const guard = new ChildGuard(dir);
  const mosquitto = await startMosquitto();
  const children: ChildProcess[] = [];
  try {
    writeFileSync(join(dir, 'token'), TOKEN);
    const registry = await startRegistryProcess(guard, {
      dir,
      mqttUrl: mosquitto.url,
      args: ['--token-file', join(dir, 'token'), '--rollouts', 'immediate'],
    });
    await registerAll(registry);
    await publishModel(registry.url, '1', TOKEN);
    const arrivals = new Arrivals(vehicles);
    const share = Math.ceil(vehicles / PROCESSES);
    for (let from = 0; from < vehicles; from += share) {
      const to = Math.min(from + share, vehicles);
      const args = [
        registry.url,
        registry.rootPath,
        mosquitto.url,
        join(dir, 'cars'),
        String(from),
        String(to),
      ];
      const child = spawn(process.execPath, ['--import', 'tsx', CARS, ...args], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      children.push(child);
      createInterface({ input: child.stdout }).on('line', (line) =>
        arrivals.take(JSON.parse(line) as UpdatedLine),
      );
    }
    await arrivals.all('1');
    // Twice: what was done once has been optimised the second time, and a fleet runs for long.
    for (const version of ['2', '3']) await update(registry, children, arrivals, version);
    await registry.stop();
  } finally {
    for (const child of children) {
      child.stdin!.end();
      if (child.exitCode === null) await once(child, 'exit');
    }
    await mosquitto.stop();
    await guard.close();
    rmSync(dir, { recursive: true, force: true });
  }
});

async function update(
  registry: RegistryProcess,
  children: readonly ChildProcess[],
  arrivals: Arrivals,
  version: string,
): Promise<void> {
  const cpuOfCars = () => children.reduce((sum, { pid }) => sum + cpuSecondsOf(pid!), 0);
  const [ours, theirs] = [cpuSecondsOf(registry.pid), cpuOfCars()];
  const begin = Date.now();
  await publishModel(registry.url, version, TOKEN);
  const published = Date.now();
  const times = await arrivals.all(version);
  const seconds = times.map((at) => (at - begin) / 1000);
  printFigure({
    bench: 'fleet_update',
    value: Math.max(...seconds),
    unit: 's',
    cpu_us_per_item: ((cpuSecondsOf(registry.pid) - ours) * 1e6) / vehicles,
    car_cpu_us_per_item: ((cpuOfCars() - theirs) * 1e6) / vehicles,
    published_s: (published - begin) / 1000,
    median_s: median(seconds, (second) => second),
    vehicles,
    version,
  });
}

async function registerAll({ url }: RegistryProcess): Promise<void> {
  const lines = Array.from({ length: vehicles }, (_, number) =>
    JSON.stringify({ id: benchCarId(number), signalSet: SIGNALS.id }),
  );
  const answer = await fetch(`${url}/v1/vehicles`, {
    method: 'POST',
    body: lines.join('\n'),
    headers: { 'content-type': 'application/x-ndjson', authorization: `Bearer ${TOKEN}` },
  });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
}
