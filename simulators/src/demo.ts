import { fork, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import mqtt, { type MqttClient } from 'mqtt';
import { Bridge } from '@cardan/bridge';
import { RegistryClient } from '@cardan/cloud';
import {
  aborted,
  CardanError,
  ensureDataDir,
  ensureLogTopics,
  isEvent,
  messageOf,
  mqttTopic,
  recordToEvent,
  type MqttConnection,
} from '@cardan/shared';
import { openEventLog, type EventLog, type Offsets } from '@cardan/shared/event-log';
import { accountRows } from './account.ts';
import { startBroker } from './broker.ts';
import { firstModelRows } from './config.ts';
import type { DemoOptions, DemoSummary } from './demo-options.ts';
import { DemoTerminal } from './demo-terminal.ts';
import { FAULT_KINDS, type FaultKind } from './faults.ts';
import { carId, simulatedCar } from './fleet.ts';
import { LoopObserver, modelsFor, type ObservedModel } from './loop-observer.ts';
import { SIM_TOPICS, type InjectRequest, type Replay, type Sampled, type Truth } from './sim-topics.ts';

/** What the cloud process tells its parent when it is ready. */
interface CloudReady {
  registryUrl: string;
  monitorUrl: string;
  rootPath: string;
}

/**
 * The composition root: starts everything in one process tree, with the same commands that start it on separate
 * machines. This process holds the MQTT broker and the bridge; the fleet and the cloud are children of their
 * own. They meet only over MQTT, HTTP and the log.
 *
 * Resolves to the summary; with `once` that is when the loop has closed twice or did not, else when `stop` aborts.
 */
export async function runDemo(
  options: DemoOptions,
  stop: AbortSignal,
  terminal: DemoTerminal,
): Promise<DemoSummary> {
  const dataDir =
    options.dataDir === undefined ? mkdtempSync(join(tmpdir(), 'cardan-')) : ensureDataDir(options.dataDir);
  const closing: (() => Promise<unknown>)[] = [
    async () => {
      if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  ];
  try {
    const demo = new Demo(options, dataDir, stop, terminal, closing);
    return await demo.run();
  } finally {
    for (const close of closing.reverse()) await close();
  }
}

class Demo {
  private readonly started = performance.now();
  private readonly options: DemoOptions;
  private readonly dataDir: string;
  private readonly stop: AbortSignal;
  private readonly terminal: DemoTerminal;
  private readonly closing: (() => Promise<unknown>)[];
  /** Aborts when the user stops, or a child ends by itself. */
  private readonly ending = new AbortController();
  private failed: CardanError | undefined;
  /** Where the telemetry of this run begins in the log. */
  private begin: Offsets = {};
  /** Models that the log knows from an earlier run with other keys: no car of this run can have them. */
  private history = new Map<string, { signalSet: string }>();
  /** Signal sets of recordings for which a training has been asked. */
  private readonly replaySets = new Set<string>();

  constructor(
    options: DemoOptions,
    dataDir: string,
    stop: AbortSignal,
    terminal: DemoTerminal,
    closing: (() => Promise<unknown>)[],
  ) {
    this.options = options;
    this.dataDir = dataDir;
    this.stop = stop;
    this.terminal = terminal;
    this.closing = closing;
    void aborted(stop).then(() => this.ending.abort());
  }

  async run(): Promise<DemoSummary> {
    const { options, dataDir, terminal, ending } = this;
    const onProblem = (error: CardanError) => terminal.problem(error);
    const logUrl = options.kafka?.url ?? `sqlite:${join(dataDir, 'log.db')}`;
    const log = await openEventLog(logUrl, { ...options.kafka?.kafka, onProblem });
    this.closing.push(() => log.close());
    const fresh = !existsSync(join(dataDir, 'registry'));
    const mqttUrl = options.mqtt?.url ?? (await this.startBroker());
    const { connection } = options.mqtt ?? {};
    if (fresh && options.mqtt !== undefined) await this.forgetCars(mqttUrl);
    const bridge = await Bridge.start({
      mqttUrl,
      ...(connection === undefined ? {} : { connection }),
      log,
      onProblem,
    });
    this.closing.push(() => bridge.close());
    await ensureLogTopics(log);
    this.begin = await log.resolve('telemetry', 'latest');
    if (fresh) this.history = await publishedModels(log);
    const cloud = await this.startCloud(logUrl, mqttUrl);
    terminal.addresses({
      page: cloud.monitorUrl,
      api: cloud.registryUrl,
      mqtt: mqttUrl,
      log: logUrl,
      dataDir,
    });

    const fleetIds = new Set(
      Array.from({ length: options.vehicles }, (_, i) => carId(i + 1, options.vehicles)),
    );
    const observer = new LoopObserver(log, fleetIds, ending.signal, (news) => terminal.news(news));
    const observing = observer.run().catch((error: unknown) => {
      if (!ending.signal.aborted) throw error;
    });
    const sampled = await this.followFleet(mqttUrl, observer, cloud.registryUrl);
    const fleet = await this.startFleet(mqttUrl, cloud);
    terminal.follow(() => bridge.counts.rows);

    terminal.tryNext(mqttUrl, cloud.registryUrl);
    const why = options.once
      ? await this.closeLoop(observer, cloud.registryUrl, sampled.inject)
      : await this.show(observer, cloud.registryUrl, sampled.inject);
    const cars = await this.finish(fleet, sampled);
    ending.abort();
    await observing;
    return this.summary(log, observer, cars, mqttUrl, why);
  }

  /** Models of the simulated cars that this run can install. */
  private models(observer: LoopObserver): ObservedModel[] {
    return modelsFor(observer.models, simulatedCar().map.set).filter(
      ({ manifest }) => !this.history.has(modelId(manifest)),
    );
  }

  /** A trainer that finds models in the log waits for twice the rows; the files of those are elsewhere, though. */
  private async trainAnew(registryUrl: string): Promise<void> {
    const { id } = simulatedCar().map.set;
    if (![...this.history.values()].some(({ signalSet }) => signalSet === id)) return;
    await new RegistryClient(registryUrl).requestTraining({
      signalSet: id,
      reason: 'the log has a history, the registry has none',
    });
  }

  /** What a broker that is there already has kept of cars of the same names, with other outboxes and other keys. */
  private async forgetCars(mqttUrl: string): Promise<void> {
    const { vehicles, mqtt: given } = this.options;
    const client = await connectMqtt(mqttUrl, given?.connection);
    const ids = Array.from({ length: vehicles }, (_, i) => carId(i + 1, vehicles));
    const channels = ['desired', 'reported', 'status'] as const;
    await Promise.all(
      ids.flatMap((id) =>
        channels.map((channel) => client.publishAsync(mqttTopic(id, channel), '', { qos: 1, retain: true })),
      ),
    );
    await client.endAsync();
  }

  private async startBroker(): Promise<string> {
    const broker = await startBroker(0);
    this.closing.push(() => broker.close());
    return broker.url;
  }

  /** One round after the other; resolves to what did not come about, or undefined. */
  private async closeLoop(
    observer: LoopObserver,
    registryUrl: string,
    inject: (request: InjectRequest) => Promise<void>,
  ): Promise<string | undefined> {
    const { options, started } = this;
    const deadline = started + options.secondsMax * 1000;
    const signals = simulatedCar().map.set;
    const models = () => this.models(observer);
    await this.trainAnew(registryUrl);
    const everywhere = (model: ObservedModel | undefined) =>
      model !== undefined && model.installed.size >= options.vehicles;

    if (!(await observer.until(() => models().length >= 1, deadline))) return 'no first model was published';
    if (!(await observer.until(() => everywhere(models()[0]), deadline)))
      return `the first model is on ${models()[0]?.installed.size} of ${options.vehicles} cars`;
    if (options.replay !== undefined) {
      const replayed = () => observer.models.find(({ manifest }) => manifest.signalSet.id !== signals.id);
      if (!(await observer.until(() => (replayed()?.installed.size ?? 0) >= 1, deadline)))
        return 'the replayed car has no model of its own';
    }
    // Some minutes of normal driving with the model, to see whether it keeps quiet.
    const quiet = performance.now() + Math.max(3000, (6 * 60_000) / options.speedup);
    await observer.until(() => false, Math.min(quiet, deadline));
    for (const [i, kind] of options.faults.entries())
      await inject({ kind, vehicle: vehicleForFault(options, i) });
    if (!(await observer.until(() => observer.faults.length >= options.faults.length, deadline)))
      return 'the simulator did not inject every fault';
    // Keep time for the second round.
    const detectBy = Math.min(
      deadline - 15_000,
      performance.now() + Math.max(30_000, (25 * 60_000) / options.speedup),
    );
    const detected = await observer.until(
      () => observer.faults.every(({ delayMs }) => delayMs !== undefined),
      detectBy,
    );
    const before = models().length;
    await new RegistryClient(registryUrl).requestTraining({
      signalSet: signals.id,
      reason: 'second round of the loop',
    });
    if (!(await observer.until(() => models().length > before, deadline)))
      return 'no second model was published';
    if (!(await observer.until(() => everywhere(models().at(-1)), deadline)))
      return `the second model is on ${models().at(-1)?.installed.size} of ${options.vehicles} cars`;
    if (!detected) {
      const missed = observer.faults.filter(({ delayMs }) => delayMs === undefined);
      return `not detected: ${missed.map(({ vehicle, fault }) => `${fault.kind} of ${vehicle}`).join(', ')}`;
    }
    return undefined;
  }

  /** Runs until it is stopped; a fault now and then, once the fleet has its first model. */
  private async show(
    observer: LoopObserver,
    registryUrl: string,
    inject: (request: InjectRequest) => Promise<void>,
  ): Promise<undefined> {
    const { options } = this;
    const never = Number.POSITIVE_INFINITY;
    await this.trainAnew(registryUrl);
    const first = () => this.models(observer)[0];
    if (!(await observer.until(() => (first()?.installed.size ?? 0) >= options.vehicles, never))) return;
    for (const [i, kind] of options.faults.entries()) {
      if (
        await observer.until(() => this.ending.signal.aborted, performance.now() + (i === 0 ? 5_000 : 20_000))
      )
        return;
      if (this.ending.signal.aborted) return;
      await inject({ kind, vehicle: vehicleForFault(options, i) });
    }
    await aborted(this.ending.signal);
  }

  private async startCloud(logUrl: string, mqttUrl: string): Promise<CloudReady> {
    const { options } = this;
    const child = this.startChild('cloud', cloudCommand(), [
      ...['all', ...(options.kafka?.flags ?? ['--log', logUrl]), ...this.mqttFlags(mqttUrl)],
      ...['--data', this.dataDir, '--registry-port', '0'],
      ...['--monitor-port', String(options.port), '--seed', String(options.seed)],
      ...['--min-rows', String(firstModelRows(options.vehicles))],
      ...(options.once ? ['--no-retrain', '--max-rows', '30000'] : []),
    ]);
    const ready = await Promise.race([
      new Promise<CloudReady>((resolve) =>
        child.once('message', (message) => resolve(message as CloudReady)),
      ),
      aborted(this.ending.signal).then(() => undefined),
    ]);
    if (ready === undefined) throw this.failed ?? new CardanError('LOOP_OPEN', 'Stopped while starting.');
    return ready;
  }

  private async startFleet(mqttUrl: string, cloud: CloudReady): Promise<ChildProcess> {
    const { options } = this;
    const { replay } = options;
    return this.startChild('fleet', fileURLToPath(new URL('../bin/cardan-sim.js', import.meta.url)), [
      ...[
        'fleet',
        '--vehicles',
        String(options.vehicles),
        '--seed',
        String(options.seed),
        '--speedup',
        String(options.speedup),
      ],
      ...[
        ...this.mqttFlags(mqttUrl),
        '--data',
        join(this.dataDir, 'fleet'),
        '--registry',
        cloud.registryUrl,
        '--root',
        cloud.rootPath,
      ],
      ...(replay === undefined ? [] : ['--replay', replay.path, '--dbc', replay.dbcPath]),
      ...(replay?.vssPath === undefined ? [] : ['--vss', replay.vssPath]),
    ]);
  }

  private mqttFlags(mqttUrl: string): string[] {
    return this.options.mqtt?.flags ?? ['--mqtt', mqttUrl];
  }

  /** A child that ends by itself ends the demo; its last words are the error. */
  private startChild(name: string, command: string, args: string[]): ChildProcess {
    const child = fork(command, args, { silent: true });
    let words = '';
    child.stderr?.on('data', (data: Buffer) => {
      words = (words + data.toString('utf8')).slice(-4000);
      this.terminal.childSays(name, data.toString('utf8'));
    });
    const exited = new Promise<void>((resolve) => {
      child.once('exit', (code, signal) => {
        resolve();
        if (this.ending.signal.aborted) return;
        this.failed ??=
          lastError(words) ??
          new CardanError(
            'SERVICE_FAILED',
            `The ${name} process ended by itself (${signal ?? code}):\n${words.trim()}`,
          );
        this.ending.abort();
      });
    });
    this.closing.push(async () => {
      this.ending.abort();
      child.kill('SIGTERM');
      const kill = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await exited;
      clearTimeout(kill);
    });
    return child;
  }

  /** Listens to what the fleet says of itself, and gives a way to speak to it. */
  private async followFleet(
    mqttUrl: string,
    observer: LoopObserver,
    registryUrl: string,
  ): Promise<{
    inject: (request: InjectRequest) => Promise<void>;
    finish: () => Promise<void>;
    cars: Promise<Sampled[]>;
  }> {
    const client = await connectMqtt(mqttUrl, this.options.mqtt?.connection);
    this.closing.push(() => client.endAsync(true));
    await client.subscribeAsync([SIM_TOPICS.truth, SIM_TOPICS.replay, SIM_TOPICS.sampled], { qos: 1 });
    const cars = new Promise<Sampled[]>((resolve) => {
      client.on('message', (topic, payload) => {
        const value: unknown = JSON.parse(payload.toString('utf8'));
        if (topic === SIM_TOPICS.truth) observer.injected(value as Truth);
        else if (topic === SIM_TOPICS.replay) void this.trainReplay(value as Replay, registryUrl);
        else resolve(value as Sampled[]);
      });
    });
    return {
      inject: async (request) => {
        await client.publishAsync(SIM_TOPICS.inject, JSON.stringify(request), { qos: 1 });
      },
      finish: async () => {
        await client.publishAsync(SIM_TOPICS.finish, '', { qos: 1 });
      },
      cars,
    };
  }

  /** A recording is over soon, and is one car only: it gets a model as soon as it can have one, and no second one. */
  private async trainReplay(replay: Replay, registryUrl: string): Promise<void> {
    if (this.replaySets.has(replay.signalSet)) return;
    this.replaySets.add(replay.signalSet);
    await new RegistryClient(registryUrl)
      .requestTraining({ signalSet: replay.signalSet, reason: `${replay.rows} rows of the recording` })
      .catch((error: unknown) => {
        if (!(error instanceof CardanError)) throw error;
        this.terminal.problem(error);
      });
  }

  /** Lets the fleet come to rest: every row acknowledged, or half a minute gone. */
  private async finish(
    fleet: ChildProcess,
    { finish, cars }: { finish: () => Promise<void>; cars: Promise<Sampled[]> },
  ): Promise<Sampled[]> {
    if (this.failed !== undefined) throw this.failed;
    if (fleet.exitCode !== null || fleet.signalCode !== null) return [];
    this.terminal.note('stopping', 'the cars send what waits in their outboxes');
    await finish();
    const late = new Promise<Sampled[]>((resolve) => setTimeout(() => resolve([]), 30_000).unref());
    return Promise.race([cars, late]);
  }

  private async summary(
    log: EventLog,
    observer: LoopObserver,
    cars: Sampled[],
    mqttUrl: string,
    notYet: string | undefined,
  ): Promise<DemoSummary> {
    const { options } = this;
    const rows = await accountRows(log, cars, this.begin);
    const delays = observer.faults
      .flatMap(({ delayMs }) => (delayMs === undefined ? [] : [delayMs / 1000]))
      .sort((a, b) => a - b);
    const hours = observer.healthyHours(cars[0]?.endTime ?? 0);
    const installs = observer.models.flatMap(({ publishedAt, installedAt }) =>
      installedAt === undefined || publishedAt === undefined ? [] : [installedAt - publishedAt],
    );
    const why =
      notYet ??
      (options.once && this.stop.aborted ? 'stopped before the loop had closed' : undefined) ??
      (cars.length === 0
        ? 'the fleet did not come to rest'
        : rows.lost > 0
          ? `${rows.lost} rows are missing in the log`
          : undefined);
    const summary: DemoSummary = {
      loop: why === undefined ? 'closed' : 'open',
      ...(why === undefined ? {} : { why }),
      vehicles: options.vehicles,
      rows,
      models: observer.models.map(({ manifest, installed }) => ({
        name: manifest.name,
        version: manifest.version,
        trained_rows: manifest.lineage.rows,
        lineage: manifest.lineage,
        installed: installed.size,
      })),
      faults: {
        injected: observer.faults.length,
        detected: delays.length,
        median_delay_s: delays.length === 0 ? null : round(median(delays)),
      },
      false_alarms_per_vehicle_hour: hours === 0 ? 0 : round(observer.falseAlarms / hours),
      log: options.kafka === undefined ? 'sqlite' : 'kafka',
      mqtt: mqttUrl,
      seconds: {
        train: round(Math.max(0, ...observer.trainingSeconds)),
        install: round(Math.max(0, ...installs) / 1000),
        total: round((performance.now() - this.started) / 1000),
      },
    };
    return summary;
  }
}

async function connectMqtt(url: string, connection: MqttConnection = {}): Promise<MqttClient> {
  try {
    return await mqtt.connectAsync(
      url,
      { ...connection, protocolVersion: 4, clientId: `cardan-demo-${randomUUID().slice(0, 8)}` },
      false, // the first attempt counts
    );
  } catch (cause) {
    throw new CardanError(
      'MQTT_UNREACHABLE',
      `No MQTT broker answers at ${url} (${messageOf(cause) || 'connection refused'}). Start one, or leave --mqtt (MQTT_URL) out to have one of its own.`,
      { cause },
    );
  }
}

function modelId({ name, version }: { name: string; version: string }): string {
  return `${name} ${version}`;
}

/** Every model that was ever published in this log. */
async function publishedModels(log: EventLog): Promise<Map<string, { signalSet: string }>> {
  const models = new Map<string, { signalSet: string }>();
  for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.model.published'))
        models.set(modelId(event.data.manifest), { signalSet: event.data.manifest.signalSet.id });
    }
  return models;
}

/** Faults go to different cars, spread over the fleet. */
function vehicleForFault({ vehicles, faults }: DemoOptions, index: number): string {
  const step = Math.max(1, Math.floor(vehicles / faults.length));
  return carId(1 + ((index * step) % vehicles), vehicles);
}

/** Kinds for a number of faults, each kind in turn, at most one per car. */
export function faultKinds(count: number): FaultKind[] {
  return Array.from({ length: count }, (_, i) => FAULT_KINDS[i % FAULT_KINDS.length]!);
}

function cloudCommand(): string {
  return fileURLToPath(new URL('../bin/cardan-cloud.js', import.meta.resolve('@cardan/cloud')));
}

/** The error line that a command prints (`error CODE: message`), as the error it was. */
function lastError(words: string): CardanError | undefined {
  const match = /^error ([A-Z_]+): ([\s\S]*)$/m.exec(words);
  return match === null ? undefined : new CardanError(match[1] as CardanError['code'], match[2]!.trim());
}

function median(sorted: readonly number[]): number {
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
