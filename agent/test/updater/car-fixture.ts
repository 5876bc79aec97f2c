import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ModelRef, VehicleDesired, VehicleModelStopped } from '@cardan/shared';
import { COLUMNS } from '../../../cloud/test/registry/model-fixture.ts';
import { type TestRegistry, testRegistry } from '../../../cloud/test/registry/registry-fixture.ts';
import type { Abilities } from '../../src/updater/fits.ts';
import { httpGet } from '../../src/updater/http-get.ts';
import { type InstalledModel, Updater, type UpdateReport } from '../../src/updater/updater.ts';

/** Answers in the place of the registry, or lets the answer pass. */
export type Attack = (path: string, response: ServerResponse) => boolean | Promise<boolean>;

/** The registry with somebody in the middle, who may answer any request. */
export interface Middle {
  url: string;
  attack: Attack;
  /** Paths that were asked for. */
  requests: string[];
  close: () => Promise<void>;
}

export async function manInTheMiddle(registryUrl: () => string): Promise<Middle> {
  const server = createServer((request, response) => void forward(request.url ?? '', response));
  const middle: Middle = {
    url: '',
    attack: () => false,
    requests: [],
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  async function forward(path: string, response: ServerResponse): Promise<void> {
    middle.requests.push(path);
    if (await middle.attack(path, response)) return;
    const answer = await fetch(registryUrl() + path);
    response.writeHead(answer.status).end(Buffer.from(await answer.arrayBuffer()));
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  middle.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return middle;
}

/** A car's updater on a real registry, with everything that it does recorded. */
export class Car {
  readonly reports: UpdateReport[] = [];
  readonly installed: InstalledModel[] = [];
  readonly candidates: (InstalledModel | null)[] = [];
  readonly waits: number[] = [];
  /** Models that the updater itself gave up. */
  readonly stopped: VehicleModelStopped[] = [];
  readonly updater: Updater;
  readonly dir: string;
  /** Set to make the loading of a model fail. */
  refuse: (model: InstalledModel) => Error | undefined;

  constructor(options: {
    dir: string;
    rootPath: string;
    url: string;
    clock?: () => number;
    retries?: number;
    signalSet?: string;
    /** Whether the car hears what the registry wants over HTTP; by hints alone otherwise. */
    polls?: boolean;
    refuse?: (model: InstalledModel) => Error | undefined;
    abilities?: Abilities;
    bootId?: string;
  }) {
    const {
      dir,
      rootPath,
      url,
      clock = Date.now,
      retries = 0,
      signalSet = COLUMNS.id,
      polls = false,
    } = options;
    this.dir = dir;
    this.refuse = options.refuse ?? (() => undefined);
    this.updater = new Updater({
      dir,
      rootPath,
      baseUrl: url,
      vehicle: 'car-1',
      signalSet,
      clock,
      random: () => 0,
      stallMs: 300,
      get: (address, request) =>
        !polls && address.includes('/desired')
          ? Promise.reject(new Error('no poll'))
          : httpGet(address, request),
      // Waits do not wait: the first ones end at once, then one that ends only when the updater is stopped or hinted.
      delay: (ms, signal) => {
        if (ms !== 60_000) this.waits.push(ms);
        if (signal.aborted || (ms !== 60_000 && this.waits.length <= retries)) return Promise.resolve();
        return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      },
      onInstalled: async (model) => {
        const error = this.refuse(model);
        if (error) throw error;
        this.installed.push(model);
      },
      onCandidate: async (model) => {
        const error = model === null ? undefined : this.refuse(model);
        if (error) throw error;
        this.candidates.push(model);
      },
      onReport: (report) => this.reports.push(report),
      onModelStopped: (stopped) => this.stopped.push(stopped),
      ...(options.abilities === undefined ? {} : { abilities: options.abilities }),
      ...(options.bootId === undefined ? {} : { bootId: options.bootId }),
    });
  }

  get last(): UpdateReport | undefined {
    return this.reports.at(-1);
  }

  get active(): ModelRef | null {
    return this.last?.active ?? null;
  }

  hint(generation: number, version: string | null = String(generation), candidate?: string | null): void {
    const ref = (of: string | null) => (of === null ? null : { name: 'anomaly', version: of });
    const desired: VehicleDesired = {
      generation,
      active: ref(version),
      ...(candidate === undefined ? {} : { candidate: ref(candidate) }),
    };
    this.updater.hint(desired);
  }

  /** Resolves at the next report that fits; at once when the last one does. */
  async reported(fits: (report: UpdateReport) => boolean): Promise<UpdateReport> {
    while (this.last === undefined || !fits(this.last)) await new Promise((resolve) => setImmediate(resolve));
    return this.last;
  }

  /** The end of the installation of this generation: idle, or failed. */
  done(generation: number): Promise<UpdateReport> {
    return this.reported(
      ({ observedGeneration, phase }) => observedGeneration === generation && phase !== 'updating',
    );
  }
}

/** Registry, somebody in the middle, and what is closed and removed after a test. */
export class World {
  private readonly closing: (() => Promise<void>)[] = [];
  private readonly dirs: string[] = [];

  dir(): string {
    const dir = mkdtempSync(join(tmpdir(), 'cardan-car-'));
    this.dirs.push(dir);
    return dir;
  }

  async registry(options: Parameters<typeof testRegistry>[0] = {}): Promise<TestRegistry> {
    const registry = await testRegistry({ dir: this.dir(), ...options });
    this.closing.push(registry.close);
    return registry;
  }

  async middle(registryUrl: () => string): Promise<Middle> {
    const middle = await manInTheMiddle(registryUrl);
    this.closing.push(middle.close);
    return middle;
  }

  async car(options: ConstructorParameters<typeof Car>[0]): Promise<Car> {
    const car = new Car(options);
    this.closing.push(() => car.updater.stop());
    await car.updater.start();
    return car;
  }

  async close(): Promise<void> {
    for (const close of this.closing.splice(0).reverse()) await close();
    for (const dir of this.dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
  }
}
