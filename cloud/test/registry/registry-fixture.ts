import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EventLog, SqliteEventLog } from '@cardan/shared/event-log';
import type { ApiSettings } from '../../src/distribution/api-settings.ts';
import { startRegistry } from '../../src/distribution/start-registry.ts';

export interface TestRegistry {
  url: string;
  rootPath: string;
  dir: string;
  log: EventLog;
  problems: unknown[];
  close: () => Promise<void>;
}

export interface TestRegistryOptions {
  /** Folder of a registry that ran before; default a new one. */
  dir?: string;
  mqttUrl?: string;
  token?: string;
  api?: ApiSettings;
  clock?: () => number;
}

/** The real service on a free port, with a real log file. Without a broker: nothing listens on port 1. */
export async function testRegistry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const { dir = tempDir(), mqttUrl = 'mqtt://127.0.0.1:1', token, api, clock = Date.now } = options;
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  const problems: unknown[] = [];
  const service = await startRegistry({
    log,
    mqttUrl,
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    token,
    api,
    clock,
    onProblem: (error) => problems.push(error),
  });
  const close = async () => {
    await service.close();
    await log.close();
  };
  return { ...service, dir, log, problems, close };
}

const made: string[] = [];

export function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-registry-'));
  made.push(dir);
  return dir;
}

export function removeTempDirs(): void {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true, force: true });
}

const open = new Set<TestRegistry>();

/** One that `closeRegistries` closes, unless the test has. */
export async function openRegistry(options?: TestRegistryOptions): Promise<TestRegistry> {
  const service = await testRegistry(options);
  const registry: TestRegistry = {
    ...service,
    close: () => {
      open.delete(registry);
      return service.close();
    },
  };
  open.add(registry);
  return registry;
}

/** For `afterEach`; it removes their folders, too. */
export async function closeRegistries(): Promise<void> {
  for (const registry of open) await registry.close();
  removeTempDirs();
}
