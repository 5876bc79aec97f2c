import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { startRegistry } from '../../cloud/src/distribution/start-registry.ts';

/** The OpenAPI document that the registry serves: a real one is started for it, and is gone when this resolves. */
export async function openApiDocument(): Promise<Record<string, unknown>> {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-openapi-'));
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  try {
    const registry = await startRegistry({
      log,
      // Nobody needs to hear of anything here.
      mqttUrl: 'mqtt://127.0.0.1:1',
      dir: join(dir, 'registry'),
      host: '127.0.0.1',
      port: 0,
      onProblem: () => {},
    });
    try {
      return (await (await fetch(`${registry.url}/openapi.json`)).json()) as Record<string, unknown>;
    } finally {
      await registry.close();
    }
  } finally {
    await log.close();
    rmSync(dir, { recursive: true, force: true });
  }
}
