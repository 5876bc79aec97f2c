import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import mqtt, { type MqttClient } from 'mqtt';
import {
  Agent,
  CandumpSource,
  mapAllSignals,
  parseDbc,
  readVssMap,
  type AgentOptions,
  type Dbc,
  type SignalMap,
} from '@cardan/agent';
import {
  aborted,
  CardanError,
  ensureDataDir,
  messageOf,
  readGivenFile,
  systemCode,
  type MqttConnection,
} from '@cardan/shared';
import { Car, CAR_DBC_PATH, CAR_VSS_PATH, type CarState } from './car.ts';
import { SIM_DEFAULTS } from './config.ts';
import { FAULT_KINDS, type Fault } from './faults.ts';
import { Random } from './random.ts';
import { SIM_TOPICS, type InjectRequest, type Replay, type Sampled, type Truth } from './sim-topics.ts';

export interface FleetOptions {
  vehicles: number;
  seed: number;
  /** Simulated seconds per second of the clock. */
  speedup: number;
  /** Outboxes, models and the state of the cars; a fleet started again there goes on. */
  dataDir: string;
  mqttUrl: string;
  connection?: MqttConnection;
  updates?: AgentOptions['updates'];
  /** A recording of a real car that drives along. */
  replay?: { path: string; dbcPath: string; vssPath?: string };
  onProblem?: (error: CardanError) => void;
}

/** A car and the agent in it. */
interface Member {
  agent: Agent;
  car: Car | undefined;
  /** Sequence number of the first row of this run. */
  first: number;
  rows: number;
}

/** What a restart needs. */
interface FleetState {
  version: 1;
  simTime: number;
  cars: CarState[];
}

/** Simulated cars, each with a real agent, driven by one clock that may run faster than the wall's. */
export class Fleet {
  private readonly options: FleetOptions;
  private readonly random: Random;
  private readonly members = new Map<string, Member>();
  private readonly control: MqttClient;
  private readonly stopping = new AbortController();
  private simTime: number;
  private driving: Promise<void> = Promise.resolve();
  private replaying: Promise<void> = Promise.resolve();
  private finishing: Promise<Sampled[]> | undefined;

  /** Builds the cars (or takes up those of an earlier run), starts their agents, and drives off. */
  static async start(options: FleetOptions): Promise<Fleet> {
    ensureDataDir(options.dataDir);
    const fleet = new Fleet(options, readState(statePath(options.dataDir)));
    const { dbc, map } = simulatedCar();
    const saved = new Map(readState(statePath(options.dataDir))?.cars.map((state) => [state.id, state]));
    for (let i = 1; i <= options.vehicles; i++) {
      const id = carId(i, options.vehicles);
      const state = saved.get(id);
      const car =
        state === undefined
          ? new Car({ id, seed: options.seed * 100_003 + i, startTime: fleet.simTime })
          : Car.restore(state);
      await fleet.add(id, dbc, map, car);
    }
    if (options.replay !== undefined) await fleet.addReplay(options.replay);
    fleet.driving = fleet.drive();
    return fleet;
  }

  private constructor(options: FleetOptions, saved: FleetState | undefined) {
    this.options = options;
    this.random = new Random(options.seed);
    this.simTime = saved?.simTime ?? Date.now() - (options.speedup > 1 ? SIM_DEFAULTS.beginsBeforeMs : 0);
    this.control = mqtt.connect(options.mqttUrl, {
      ...options.connection,
      protocolVersion: 4,
      clientId: `cardan-sim-${process.pid}`,
    });
    this.control.on('connect', () => {
      this.control.subscribe([SIM_TOPICS.inject, SIM_TOPICS.finish], { qos: 1 }, () => undefined);
    });
    this.control.on('error', () => undefined); // the agents report an unreachable broker
    this.control.on('message', (topic, payload) => {
      if (topic === SIM_TOPICS.finish) void this.finish();
      else this.injectRequest(payload);
    });
  }

  /** Simulated time, milliseconds since 1970. */
  get time(): number {
    return this.simTime;
  }

  /** Stops driving, and resolves when the log has every row, to what was sampled; says so on MQTT, too. */
  finish(): Promise<Sampled[]> {
    this.finishing ??= (async () => {
      this.stopping.abort();
      await Promise.all([this.driving, this.replaying]);
      await Promise.all([...this.members.values()].map(({ agent }) => agent.drain()));
      const sampled = [...this.members].map(([vehicle, { agent, first, rows, car }]): Sampled => ({
        vehicle,
        epoch: agent.epoch,
        first,
        rows,
        dropped: agent.dropped.rows,
        simulated: car !== undefined,
        endTime: this.simTime,
      }));
      await this.control.publishAsync(SIM_TOPICS.sampled, JSON.stringify(sampled), { qos: 1 });
      return sampled;
    })();
    return this.finishing;
  }

  /** Stops; what is not acknowledged stays in the outboxes. */
  async close(): Promise<void> {
    this.stopping.abort();
    await Promise.all([this.driving, this.replaying]);
    this.save();
    await Promise.all([...this.members.values()].map(({ agent }) => agent.stop()));
    await this.control.endAsync(true);
  }

  /** Injects a fault that begins now. Returns what it became. */
  inject(request: InjectRequest): Truth {
    const cars = [...this.members].filter(
      (entry): entry is [string, Member & { car: Car }] => entry[1].car !== undefined,
    );
    const healthy = cars.filter(([, { car }]) => car.truth().length === 0);
    const pick = <T>(from: readonly T[]): T | undefined =>
      from[Math.floor(this.random.uniform() * from.length)];
    const chosen =
      request.vehicle === undefined
        ? pick(healthy.length > 0 ? healthy : cars)
        : cars.find(([id]) => id === request.vehicle);
    if (chosen === undefined)
      throw new CardanError('USAGE', `The fleet has no simulated car "${request.vehicle ?? ''}".`);
    const kind = request.kind ?? pick(FAULT_KINDS)!;
    if (!FAULT_KINDS.includes(kind))
      throw new CardanError(
        'USAGE',
        `There is no fault "${kind as string}". Choose one of: ${FAULT_KINDS.join(', ')}.`,
      );
    const { severityMin, severityMax, growthMs } = SIM_DEFAULTS.fault;
    const [vehicle, { car }] = chosen;
    const fault: Fault = {
      kind,
      onset: this.simTime,
      severity: request.severity ?? severityMin + (severityMax - severityMin) * this.random.uniform(),
      growthMs: request.growthS === undefined ? growthMs : request.growthS * 1000,
    };
    car.inject(fault);
    const truth: Truth = { vehicle, fault };
    this.control.publish(SIM_TOPICS.truth, JSON.stringify(truth), { qos: 1 });
    return truth;
  }

  private injectRequest(payload: Buffer): void {
    try {
      this.inject(JSON.parse(payload.toString('utf8')) as InjectRequest);
    } catch (error) {
      this.options.onProblem?.(
        error instanceof CardanError
          ? error
          : new CardanError('USAGE', `Not an injection request: ${messageOf(error)}.`, { cause: error }),
      );
    }
  }

  private async add(vehicle: string, dbc: Dbc, map: SignalMap, car: Car | undefined): Promise<Member> {
    const { options } = this;
    const member = { car, rows: 0, first: 0 } as Member;
    member.agent = await Agent.start({
      vehicle,
      dataDir: join(options.dataDir, vehicle),
      dbc,
      map,
      mqttUrl: options.mqttUrl,
      ...(options.connection === undefined ? {} : { connection: options.connection }),
      ...(options.updates === undefined ? {} : { updates: options.updates }),
      // A batch every simulated 5 s would be many; one every quarter of a second of the clock is enough.
      uplink: options.speedup > 1 ? { batchMs: 250 } : {},
      now: car === undefined ? Date.now : () => this.simTime,
      onRow: () => {
        member.rows++;
        if (car === undefined && member.rows === SIM_DEFAULTS.replayModelRows)
          this.tellReplay(vehicle, member);
      },
      ...(options.onProblem === undefined ? {} : { onProblem: options.onProblem }),
    });
    member.first = member.agent.nextSequence;
    this.members.set(vehicle, member);
    return member;
  }

  private async addReplay({ path, dbcPath, vssPath }: NonNullable<FleetOptions['replay']>): Promise<void> {
    const dbc = parseDbc(readGivenFile(dbcPath, `the DBC file ${dbcPath}`), dbcPath);
    const map = vssPath === undefined ? mapAllSignals(dbc) : readVssMap(vssPath, dbc);
    const vehicle = `replay-${basename(path, extname(path)).replace(/[^A-Za-z0-9_.-]/g, '-')}`.slice(0, 64);
    const source = new CandumpSource({ path, speed: this.options.speedup });
    const member = await this.add(vehicle, dbc, map, undefined);
    this.replaying = member.agent
      .play(source, this.stopping.signal)
      .then(async () => {
        await Promise.race([member.agent.drain(), aborted(this.stopping.signal)]);
        if (!this.stopping.signal.aborted) this.tellReplay(vehicle, member);
      })
      .catch((error: unknown) => {
        this.options.onProblem?.(
          error instanceof CardanError
            ? error
            : new CardanError('FILE_NOT_READABLE', `${path}: ${messageOf(error)}`, { cause: error }),
        );
      });
  }

  private tellReplay(vehicle: string, { agent, rows }: Member): void {
    const replay: Replay = { vehicle, signalSet: agent.signals.id, rows };
    this.control.publish(SIM_TOPICS.replay, JSON.stringify(replay), { qos: 1 });
  }

  /** Moves all cars on, in small steps, at the pace of the clock times `speedup`. */
  private async drive(): Promise<void> {
    const { speedup } = this.options;
    const cars = [...this.members.values()].flatMap(({ car, agent }) =>
      car === undefined ? [] : [{ car, agent }],
    );
    let before = performance.now();
    let savedAt = before;
    while (!this.stopping.signal.aborted) {
      const now = performance.now();
      const step = Math.min((now - before) * speedup, SIM_DEFAULTS.stepMaxMs);
      before = now;
      const until = Math.min(this.simTime + step, Date.now());
      for (const { car, agent } of cars) {
        car.advance(until, (frame) => agent.accept(frame));
        await new Promise((resolve) => setImmediate(resolve)); // the network's turn
      }
      this.simTime = until;
      this.repair(cars);
      if (now - savedAt > SIM_DEFAULTS.saveMs) {
        savedAt = now;
        this.save();
      }
      await new Promise((resolve) =>
        setTimeout(resolve, Math.max(1, SIM_DEFAULTS.tickMs - (performance.now() - now))),
      );
    }
  }

  /** Faults do not last for ever: most cars are healthy most of the time. */
  private repair(cars: readonly { car: Car }[]): void {
    for (const { car } of cars)
      for (const { kind, onset } of car.truth())
        if (this.simTime - onset > SIM_DEFAULTS.fault.lastsMs) car.repair(kind);
  }

  private save(): void {
    const cars = [...this.members.values()].flatMap(({ car }) => (car === undefined ? [] : [car.state]));
    const state: FleetState = { version: 1, simTime: this.simTime, cars };
    const path = statePath(this.options.dataDir);
    const file = openSync(`${path}.new`, 'w');
    try {
      writeSync(file, JSON.stringify(state));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(`${path}.new`, path);
  }
}

/** `car-01`, `car-02` …, 1-based; as many digits as the fleet needs, so that they sort. */
export function carId(number: number, vehicles: number): string {
  return `car-${String(number).padStart(Math.max(2, String(vehicles).length), '0')}`;
}

/** The DBC and the VSS map of the simulated car. */
export function simulatedCar(): { dbc: Dbc; map: SignalMap } {
  const dbc = parseDbc(readFileSync(CAR_DBC_PATH), CAR_DBC_PATH);
  return { dbc, map: readVssMap(CAR_VSS_PATH, dbc) };
}

function statePath(dataDir: string): string {
  return join(dataDir, 'fleet.json');
}

function readState(path: string): FleetState | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  return JSON.parse(text) as FleetState;
}
