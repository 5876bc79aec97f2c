import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { messageOf } from '@cardan/shared';
import { openSqlite } from '@cardan/shared/sqlite';
import { bytesText, Findings } from './finding.ts';

/** The oldest Node.js that Cardan is tested with. */
const NODE_MIN: readonly [number, number] = [20, 17];
/** The agent takes up to 80 MB; the rest is for its start, and for everything else. */
const MEMORY_BYTES_MIN = 128 * 1024 * 1024;

export interface RuntimeOptions {
  nodeVersion: string;
  /** Bytes that a program could get now. */
  memoryAvailable: () => number;
}

/** Node.js, memory, and the one native module. */
export function checkRuntime(options: RuntimeOptions): Findings {
  const findings = new Findings();
  const { nodeVersion } = options;
  const [major = 0, minor = 0] = nodeVersion.replace(/^v/, '').split('.').map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]))
    findings.ok('node', `Node.js ${nodeVersion} on ${process.arch}`);
  else
    findings.fail(
      'node',
      `Node.js ${nodeVersion} is older than ${NODE_MIN.join('.')}`,
      'Install a newer Node.js.',
    );
  const available = options.memoryAvailable();
  if (available >= MEMORY_BYTES_MIN) findings.ok('memory', `${bytesText(available)} available`);
  else
    findings.warn(
      'memory',
      `only ${bytesText(available)} available`,
      'The agent takes up to 80 MB. Stop what is not needed, or add swap that is not on the SD card (zram).',
    );
  try {
    const db = openSqlite(':memory:');
    const version = db.prepare('SELECT sqlite_version()').pluck().get() as string;
    db.close();
    findings.ok('native module', `better-sqlite3 loads, SQLite ${version}`);
  } catch (error) {
    findings.fail(
      'native module',
      `better-sqlite3 does not load: ${firstLine(messageOf(error))}`,
      'It was built for another Node.js or processor: npm rebuild better-sqlite3, or install the agent again.',
    );
  }
  return findings;
}

/** Linux's own estimate where there is one: `freemem` does not count what caches would give back. */
export function memoryAvailable(): number {
  try {
    const kib = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1];
    if (kib !== undefined) return Number(kib) * 1024;
  } catch {
    // not Linux
  }
  return freemem();
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? '';
}
