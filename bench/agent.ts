// What the packaged agent takes of the car's computer: 4,000 frames/s of 50 messages, a model and a shadow model.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import mqtt from 'mqtt';
import { mqttTopic } from '@cardan/shared';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { parseDbc } from '../agent/src/dbc/index.ts';
import { readVssMap } from '../agent/src/vss.ts';
import { Bridge } from '../bridge/src/bridge.ts';
import { startRegistry } from '../cloud/src/distribution/start-registry.ts';
import { packageAgent } from '../ops/package-agent/build.ts';
import { startBroker } from '../simulators/src/index.ts';
import { printFigure } from './parts/figure.ts';
import { publishModel, type BenchModel } from './parts/published-model.ts';
import { cpuSecondsOf, memoryOf, needProc } from './parts/process-cpu.ts';

const FRAMES_PER_SECOND = 4000;
const MESSAGES = 50;
const SIGNALS = 24;
const WARM_SECONDS = 15;
const SECONDS = Number(process.env.BENCH_SECONDS ?? 30);
const VEHICLE = 'bench';

needProc();
const dir = mkdtempSync(join(tmpdir(), 'cardan-bench-'));
const closers: (() => unknown)[] = [() => rmSync(dir, { recursive: true })];
try {
  await run();
} finally {
  for (const close of closers.reverse()) await close();
}

async function run(): Promise<void> {
  const dbcPath = join(dir, 'bench.dbc');
  writeFileSync(dbcPath, dbcText());
  const vssPath = join(dir, 'vss.yaml');
  writeFileSync(vssPath, vssText());
  const recording = join(dir, 'bench.log');
  writeFileSync(recording, recordingText((WARM_SECONDS + SECONDS + 10) * FRAMES_PER_SECOND));
  const columns = readVssMap(vssPath, parseDbc(Buffer.from(dbcText()), dbcPath)).set;

  await packageAgent({ out: dir, arch: process.arch === 'arm64' ? 'arm64' : 'x64' });
  const tarball = readdirSync(dir).find((name) => name.endsWith('.tar.gz'))!;
  execFileSync('tar', ['xzf', tarball], { cwd: dir });
  const program = join(dir, tarball.replace('.tar.gz', ''), 'bin/cardan-agent');

  const broker = await startBroker(0);
  closers.push(() => broker.close());
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  closers.push(() => log.close());
  const onProblem = (error: Error) => process.stderr.write(`${error.message}\n`);
  const bridge = await Bridge.start({ log, mqttUrl: broker.url, onProblem });
  closers.push(() => bridge.close());
  // It knows the models; which of them the car runs, and which beside it, is said below.
  const registry = await startRegistry({
    ...{ log, mqttUrl: 'mqtt://127.0.0.1:1', dir: join(dir, 'registry'), host: '127.0.0.1', port: 0 },
    onProblem: () => undefined,
  });
  closers.push(() => registry.close());
  // A network of the size that the trainer makes of these signals. It has learnt nothing: it costs the same.
  const model: BenchModel = {
    ...{ name: 'bench', columns, statistics: ['mean', 'deviation'], hidden: [24, 12, 24] },
    ...{ windowRows: 30, smoothingRows: 30 },
  };
  for (const version of ['1', '2']) await publishModel(registry.url, version, undefined, model);
  const cloud = await mqtt.connectAsync(broker.url, { protocolVersion: 4 });
  closers.push(() => cloud.endAsync(true));
  const ref = (version: string) => ({ name: 'bench', version });
  await cloud.publishAsync(
    mqttTopic(VEHICLE, 'desired'),
    JSON.stringify({ generation: 1_000_000, active: ref('1'), candidate: ref('2') }),
    { retain: true, qos: 1 },
  );

  const port = await freePort();
  const begun = performance.now();
  const agent = spawn(
    program,
    [
      ...['run', '--can', `candump:${recording}`, '--dbc', dbcPath, '--vss', vssPath, '--vehicle', VEHICLE],
      ...['--data', join(dir, 'agent'), '--mqtt', broker.url, '--metrics-port', String(port)],
      ...['--registry', registry.url, '--root', registry.rootPath],
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  closers.push(() => agent.kill('SIGKILL'));
  const metrics = async () => {
    const text = await fetch(`http://127.0.0.1:${port}/metrics`).then(
      (answer) => answer.text(),
      () => '',
    );
    return (name: string) =>
      Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1] ?? NaN);
  };
  while (!((await metrics())('cardan_agent_frames_total') > 0)) await sleep(2);
  printFigure({ bench: 'agent_start_to_first_frame', value: performance.now() - begun, unit: 'ms' });

  await sleep(WARM_SECONDS * 1000);
  const [before, cpu, time] = [await metrics(), cpuSecondsOf(agent.pid!), performance.now()];
  await sleep(SECONDS * 1000);
  const [after, cpuUsed] = [await metrics(), cpuSecondsOf(agent.pid!) - cpu];
  const seconds = (performance.now() - time) / 1000;
  const passed = (name: string) => after(name) - before(name);
  const frames = passed('cardan_agent_frames_total');
  const beside = {
    frames_per_second: frames / seconds,
    rows_per_second: passed('cardan_agent_rows_total') / seconds,
    models: after('cardan_agent_model_info') + after('cardan_agent_shadow_model_info'),
    rows_not_in_log: after('cardan_agent_outbox_rows'),
  };
  const core = (100 * cpuUsed) / seconds;
  printFigure({
    ...{ bench: 'agent_cpu', value: core, unit: '% of a core' },
    ...{ cpu_us_per_item: (1e6 * cpuUsed) / frames, item: 'frame', ...beside },
  });
  const { rss, peak } = memoryOf(agent.pid!);
  printFigure({ bench: 'agent_memory', value: rss / 2 ** 20, unit: 'MiB', peak: peak / 2 ** 20 });
}

function dbcText(): string {
  const lines = Array.from({ length: MESSAGES }, (_, m) => [
    `BO_ ${256 + m} Message${m}: 8 ECU`,
    ...[0, 1, 2, 3].map((s) => ` SG_ S${m}_${s} : ${16 * s}|16@1+ (0.1,0) [0|0] "" ECU`),
  ]);
  return lines.flat().join('\n');
}

function vssText(): string {
  return Array.from({ length: SIGNALS }, (_, i) => `S${2 * i}_0: Vehicle.Bench.Signal${i}`).join('\n');
}

function recordingText(frames: number): string {
  const start = Math.floor(Date.now() / 1000);
  let state = 1;
  const lines = Array.from({ length: frames }, (_, i) => {
    let data = '';
    for (let word = 0; word < 4; word++) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      data += (state >>> 16).toString(16).padStart(4, '0');
    }
    const id = (256 + (i % MESSAGES)).toString(16);
    return `(${(start + i / FRAMES_PER_SECOND).toFixed(6)}) can0 ${id}#${data.toUpperCase()}\n`;
  });
  return lines.join('');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
