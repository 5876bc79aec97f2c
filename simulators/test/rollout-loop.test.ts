import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  parseManifest,
  serializeManifest,
  writeDense,
  type CardanError,
  type DenseLayer,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { Agent } from '../../agent/src/agent.ts';
import { parseDbc } from '../../agent/src/dbc/index.ts';
import { mapAllSignals } from '../../agent/src/vss.ts';
import { overflowingLayers } from '../../agent/test/scoring/scoring-fixture.ts';
import { Bridge } from '../../bridge/src/bridge.ts';
import { startAedes, type AedesBroker } from '../../bridge/test/aedes-broker.ts';
import { startRegistry, type RegistryService } from '../../cloud/src/distribution/start-registry.ts';
import { RegistryClient } from '../../cloud/src/registry-client.ts';
import { explain } from '../../cloud/src/rollout/explain.ts';
import type { RolloutRequest } from '../../cloud/src/rollout/plan.ts';
import { modelFiles, randomLayers, sha256 } from '../../shared/test/model/model-fixture.ts';

/* A rollout through the whole loop: broker, bridge, log, registry and agents, with signed files and real reports. */

const DBC = parseDbc(
  Buffer.from(
    'BO_ 256 Car: 8 ECU\n SG_ Speed : 0|8@1+ (1,0) [0|0] "km/h" X\n SG_ Load : 8|8@1+ (1,0) [0|0] "%" X',
  ),
  'car.dbc',
);
const MAP = mapAllSignals(DBC);
const NOON = Date.UTC(2026, 5, 1, 12);
/** Calm driving: exactly what the models take as the middle. */
const CALM = [50, 40];
const CARS = ['van-1', 'van-2', 'van-3', 'van-4'];

// Reports come by the clock and rows here do not, so only the shadow counts hours.
const STAGES: RolloutRequest['stages'] = [
  {
    name: 'shadow',
    kind: 'shadow',
    minimum: { vehicles: 4, vehicleHours: 1 },
    gates: { alarmIncrease: { perHour: 3, relative: 0 }, latencyP99Us: null, silentShare: null },
  },
  ...[50, 100].map((percent) => ({
    name: `to-${percent}`,
    percent,
    minimum: { vehicles: 4, vehicleHours: 0 },
    gates: { alarmIncrease: null, silentShare: null },
  })),
];

let dir: string;
let log: EventLog;
let broker: AedesBroker;
let bridge: Bridge;
let registry: RegistryService;
let client: RegistryClient;
let agents: Agent[];
let row: number;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-loop-'));
  row = 0;
  agents = [];
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  broker = await startAedes();
  bridge = await Bridge.start({ mqttUrl: broker.url, log });
  registry = await startRegistry({
    log,
    mqttUrl: broker.url,
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    rollouts: 'manual',
    rolloutPeriodMs: 100,
    onProblem: (error: CardanError) => {
      throw error;
    },
  });
  client = new RegistryClient(registry.url);
  for (const vehicle of CARS)
    agents.push(
      await Agent.start({
        vehicle,
        dataDir: join(dir, vehicle),
        dbc: DBC,
        map: MAP,
        mqttUrl: broker.url,
        updates: { registryUrl: registry.url, rootPath: registry.rootPath },
        scoring: { shadowPeriodMs: 60_000, budgetUs: 1e6 },
        now: () => NOON + 1000 * row,
      }),
    );
});
afterEach(async () => {
  for (const agent of agents) await agent.stop();
  await registry.close();
  await bridge.close();
  await broker.close();
  await log.close();
  rmSync(dir, { recursive: true, force: true });
});

async function publish(version: string, layers: DenseLayer[]): Promise<void> {
  const { modelJson, weights } = writeDense(layers);
  const manifest = parseManifest(modelFiles().manifest);
  Object.assign(manifest, { name: 'car', version, signalSet: MAP.set });
  manifest.lineage.parent = null;
  manifest.features.inputs = CALM.map((center, signal) => ({ signal, statistic: 'mean', center, scale: 5 }));
  manifest.score = { smoothingRows: 6, residualCenter: [0, 0], residualScale: [1, 1] };
  manifest.files = {
    'model.json': { sha256: sha256(modelJson), length: modelJson.length },
    'weights.bin': { sha256: sha256(weights), length: weights.length },
  };
  await client.publish({ manifest: serializeManifest(manifest), model: modelJson, weights }, 'car');
}

/** Cars drive, a row each, until it is so. */
async function driveUntil(so: () => Promise<boolean> | boolean, values = CALM): Promise<void> {
  while (!(await so())) {
    row++;
    for (const agent of agents)
      agent.accept({
        time: NOON + 1000 * row,
        id: 256,
        extended: false,
        fd: false,
        data: Uint8Array.from([...values, 0, 0, 0, 0, 0, 0]),
      });
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const versions = () =>
  agents.map(({ activeModel, shadowModel }) => [activeModel?.version, shadowModel?.version]);
const all = (active: string, shadow?: string) =>
  versions().every((version) => version[0] === active && version[1] === shadow);
const status = async (id: string) => (await client.rollout(id)).status;

test(
  'a good version reaches all cars by shadow and groups; the next, which fails in the cars, none',
  { timeout: 180_000 },
  async () => {
    const layers = randomLayers([2, 3, 2]);
    await publish('1', layers);
    await driveUntil(() => all('1'));

    await publish(
      '2',
      layers.map((layer) => ({ ...layer, kernel: layer.kernel.map((weight) => 0.99 * weight) })),
    );
    await client.createRollout({ model: { name: 'car', version: '2' }, stages: STAGES });
    await driveUntil(() => all('1', '2'));
    await driveUntil(async () => (await status('car-2')) !== 'running');
    expect(await status('car-2')).toBe('done');
    await driveUntil(() => all('2'));

    // Right as long as the car drives calmly.
    await publish(
      '3',
      overflowingLayers(2).map((layer) => ({ ...layer, bias: layer.bias.map(() => 0) })),
    );
    await client.createRollout({ model: { name: 'car', version: '3' }, stages: STAGES });
    await driveUntil(() => versions().every(([active, shadow]) => active === '2' && shadow === '3'));
    await driveUntil(async () => (await status('car-3')) !== 'running', [90, 90]);
    expect(await status('car-3')).toBe('rolled-back');
    expect(versions().map(([active]) => active)).toEqual(['2', '2', '2', '2']);
    const story = explain(await client.rolloutEvents('car-3')).join('\n');
    expect(story).toContain('failures fail at once');
    expect(story).toContain('rolled back by rollout service: gate of stage shadow');
  },
);
