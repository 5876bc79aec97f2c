import type { CardanError, MqttConnection } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import type { ApiSettings } from './distribution/api-settings.ts';
import { startRegistry } from './distribution/start-registry.ts';
import { Learner } from './learner/learner.ts';
import type { LoopPolicy } from './loop/decide.ts';
import { LoopService } from './loop/loop-service.ts';
import { startMonitor } from './monitor/server.ts';
import { Predictor } from './predictor/predictor.ts';
import { RegistryClient } from './registry-client.ts';
import type { RolloutPolicy } from './registry/registry.ts';
import type { LogSpan } from './trainer/log-span.ts';
import { Trainer } from './trainer/trainer.ts';

export type ServiceName = 'registry' | 'trainer' | 'predictor' | 'loop' | 'learner' | 'monitor';

export interface ServicesOptions {
  log: EventLog;
  /** Keys and model files of the registry. */
  dataDir: string;
  /** Of the registry's private keys; default none. */
  keysPassphrase?: string | undefined;
  mqttUrl: string;
  connection: MqttConnection;
  /** Used where the registry runs elsewhere. */
  registryUrl: string;
  token?: string;
  /** How the registry's API is offered. */
  api?: ApiSettings;
  /** How a new version gets to its vehicles; default `immediate`. */
  rollouts?: RolloutPolicy;
  host: string;
  registryPort: number;
  monitorPort: number;
  /** What the closed loop may do by itself, and its folder; default it only looks. */
  loop: { dir: string; policy: Partial<LoopPolicy> };
  /** Train again by itself as the log grows. */
  retrain: boolean;
  seed: number;
  rowsPerVehicleMin: number;
  rowsMax: number;
  /** What the trainer reads, how fast, and under which name its lag is shown. */
  span: LogSpan;
  rowsPerSecond: number | undefined;
  group: string;
  repairs: boolean;
  /** Where the learner keeps what it has learned. */
  learnerFile: string;
  onProblem: (error: CardanError) => void;
}

export interface RunningServices {
  registryUrl: string;
  monitorUrl: string | undefined;
  /** The factory root that agents are given. */
  rootPath: string | undefined;
  /** One line per service, to be shown to a user. */
  lines: string[];
  close(): Promise<void>;
}

/** Starts the services in one process. They know each other only through the log, HTTP and MQTT. */
export async function startServices(
  names: readonly ServiceName[],
  options: ServicesOptions,
): Promise<RunningServices> {
  const { log, onProblem } = options;
  const token = options.token === undefined ? {} : { token: options.token };
  const closing: (() => Promise<void>)[] = [];
  const running: RunningServices = {
    registryUrl: options.registryUrl,
    monitorUrl: undefined,
    rootPath: undefined,
    lines: [],
    close: async () => {
      for (const close of closing.reverse()) await close();
    },
  };
  try {
    if (names.includes('registry')) {
      const registry = await startRegistry({
        log,
        mqttUrl: options.mqttUrl,
        connection: options.connection,
        dir: options.dataDir,
        keysPassphrase: options.keysPassphrase,
        host: options.host,
        port: options.registryPort,
        ...token,
        api: options.api,
        rollouts: options.rollouts,
        onProblem,
      });
      closing.push(() => registry.close());
      running.registryUrl = registry.url;
      running.rootPath = registry.rootPath;
      running.lines.push(
        `registry: ${registry.url} (API at ${registry.url}/openapi.json, root of trust ${registry.rootPath})`,
      );
      if (registry.keysHere.length > 0)
        running.lines.push(
          `registry: the keys of ${registry.keysHere.join(', ')} are on this machine; docs/trust.md says how to keep them elsewhere`,
        );
    }
    const registry = new RegistryClient(running.registryUrl, options.token);
    if (names.includes('trainer')) {
      const { retrain, seed, rowsPerVehicleMin, rowsMax, span, group, rowsPerSecond, repairs } = options;
      const trainer = await Trainer.start({
        log,
        registry,
        retrain,
        seed,
        rowsPerVehicleMin,
        rowsMax,
        span,
        group,
        repairs,
        ...(rowsPerSecond === undefined ? {} : { rowsPerSecond }),
        onProblem,
      });
      closing.push(() => trainer.close());
      running.lines.push(`trainer: first model at ${rowsPerVehicleMin} rows per vehicle`);
    }
    if (names.includes('predictor')) {
      const predictor = await Predictor.start({ log, registry, onProblem });
      closing.push(() => predictor.close());
      running.lines.push('predictor: scoring telemetry');
    }
    if (names.includes('learner')) {
      const learner = await Learner.start({ log, path: options.learnerFile, onProblem });
      closing.push(() => learner.close());
      running.lines.push('learner: driving states and clusters of vehicles');
    }
    if (names.includes('loop')) {
      const { dir, policy } = options.loop;
      const loop = await LoopService.open({ log, registry, dir, policy, onProblem });
      closing.push(() => loop.close());
      running.lines.push(`loop: ${policy.mode ?? 'off'} (docs/closed-loop.md)`);
    }
    if (names.includes('monitor')) {
      const monitor = await startMonitor({
        log,
        host: options.host,
        port: options.monitorPort,
        registryUrl: running.registryUrl,
        onProblem,
      });
      closing.push(() => monitor.close());
      running.monitorUrl = monitor.url;
      running.lines.push(`monitor: ${monitor.url}`);
    }
    return running;
  } catch (error) {
    await running.close();
    throw error;
  }
}
