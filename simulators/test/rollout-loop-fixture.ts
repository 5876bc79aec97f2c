import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { expect } from 'vitest';
import {
  parseManifest,
  serializeManifest,
  writeDense,
  type CardanError,
  type DenseLayer,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { Agent } from '../../agent/src/agent.ts';
import { parseDbc } from '../../agent/src/dbc/index.ts';
import { mapAllSignals } from '../../agent/src/vss.ts';
import { overflowingLayers } from '../../agent/test/scoring/scoring-fixture.ts';
import { Bridge } from '../../bridge/src/bridge.ts';
import { startRegistry } from '../../cloud/src/distribution/start-registry.ts';
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

export interface LoopOptions {
  dir: string;
  log: EventLog;
  mqttUrl: string;
}

/** A fleet of four, and all that stands between its cars and the cloud. */
class Loop {
  client!: RegistryClient;
  private readonly agents: Agent[] = [];
  private row = 0;
  private readonly closing: (() => Promise<unknown>)[] = [];

  async start({ dir, log, mqttUrl }: LoopOptions): Promise<void> {
    const bridge = await Bridge.start({ mqttUrl, log });
    this.closing.push(() => bridge.close());
    const registry = await startRegistry({
      log,
      mqttUrl,
      dir: join(dir, 'registry'),
      host: '127.0.0.1',
      port: 0,
      rollouts: 'manual',
      rolloutPeriodMs: 100,
      onProblem: (error: CardanError) => {
        throw error;
      },
    });
    this.closing.push(() => registry.close());
    this.client = new RegistryClient(registry.url);
    for (const number of [1, 2, 3, 4]) {
      const agent = await Agent.start({
        vehicle: `van-${number}-${randomUUID()}`,
        dataDir: join(dir, `van-${number}`),
        dbc: DBC,
        map: MAP,
        mqttUrl,
        updates: { registryUrl: registry.url, rootPath: registry.rootPath },
        scoring: { shadowPeriodMs: 60_000, budgetUs: 1e6 },
        now: () => NOON + 1000 * this.row,
      });
      this.agents.push(agent);
      this.closing.push(() => agent.stop());
    }
  }

  async close(): Promise<void> {
    for (const close of this.closing.reverse()) await close();
  }

  async publish(version: string, layers: DenseLayer[]): Promise<void> {
    const { modelJson, weights } = writeDense(layers);
    const manifest = parseManifest(modelFiles().manifest);
    Object.assign(manifest, { name: 'car', version, signalSet: MAP.set });
    manifest.lineage.parent = null;
    manifest.features.inputs = CALM.map((center, signal) => ({
      signal,
      statistic: 'mean',
      center,
      scale: 5,
    }));
    manifest.score = { smoothingRows: 6, residualCenter: [0, 0], residualScale: [1, 1] };
    manifest.files = {
      'model.json': { sha256: sha256(modelJson), length: modelJson.length },
      'weights.bin': { sha256: sha256(weights), length: weights.length },
    };
    await this.client.publish({ manifest: serializeManifest(manifest), model: modelJson, weights }, 'car');
  }

  /** Cars drive, a row each, until it is so. */
  async driveUntil(so: () => Promise<boolean> | boolean, values = CALM): Promise<void> {
    while (!(await so())) {
      this.row++;
      for (const agent of this.agents)
        agent.accept({
          time: NOON + 1000 * this.row,
          id: 256,
          extended: false,
          fd: false,
          data: Uint8Array.from([...values, 0, 0, 0, 0, 0, 0]),
        });
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  versions() {
    return this.agents.map(({ activeModel, shadowModel }) => [activeModel?.version, shadowModel?.version]);
  }
  all(active: string, shadow?: string) {
    return this.versions().every((version) => version[0] === active && version[1] === shadow);
  }
  async status(id: string) {
    return (await this.client.rollout(id)).status;
  }
}

/** A good version reaches all cars by shadow and groups; the next, which fails in the cars, none. */
export async function rolloutLoop(options: LoopOptions): Promise<void> {
  const loop = new Loop();
  try {
    await loop.start(options);
    const layers = randomLayers([2, 3, 2]);
    await loop.publish('1', layers);
    await loop.driveUntil(() => loop.all('1'));

    await loop.publish(
      '2',
      layers.map((layer) => ({ ...layer, kernel: layer.kernel.map((weight) => 0.99 * weight) })),
    );
    await loop.client.createRollout({ model: { name: 'car', version: '2' }, stages: STAGES });
    await loop.driveUntil(() => loop.all('1', '2'));
    await loop.driveUntil(async () => (await loop.status('car-2')) !== 'running');
    expect(await loop.status('car-2')).toBe('done');
    await loop.driveUntil(() => loop.all('2'));

    // Right as long as the car drives calmly.
    await loop.publish(
      '3',
      overflowingLayers(2).map((layer) => ({ ...layer, bias: layer.bias.map(() => 0) })),
    );
    await loop.client.createRollout({ model: { name: 'car', version: '3' }, stages: STAGES });
    await loop.driveUntil(() =>
      loop.versions().every(([active, shadow]) => active === '2' && shadow === '3'),
    );
    await loop.driveUntil(async () => (await loop.status('car-3')) !== 'running', [90, 90]);
    expect(await loop.status('car-3')).toBe('rolled-back');
    expect(loop.versions().map(([active]) => active)).toEqual(['2', '2', '2', '2']);
    const story = explain(await loop.client.rolloutEvents('car-3')).join('\n');
    expect(story).toContain('failures fail at once');
    expect(story).toContain('rolled back by rollout service: gate of stage shadow');
  } finally {
    await loop.close();
  }
}
