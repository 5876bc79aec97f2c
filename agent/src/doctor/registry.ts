import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CardanError, messageOf, systemCode } from '@cardan/shared';
import { Downloader } from '../updater/download.ts';
import { httpGet } from '../updater/http-get.ts';
import { TufClient } from '../updater/tuf-client.ts';
import { dayText, daysUntil, Findings } from './finding.ts';

/** Nothing for so long, and it is given up. */
const STALL_MS = 5000;
const DAYS_WARN = 30;

export interface RegistryOptions {
  registry?: string | undefined;
  root?: string | undefined;
  /** Where the agent of this vehicle keeps its files. */
  dataDir: string;
  now: () => number;
}

/**
 * The root of trust, and all signed metadata of the registry, verified as the agent does it: from what it knows already,
 * in a copy that is thrown away.
 */
export async function checkRegistry(options: RegistryOptions): Promise<Findings> {
  const findings = new Findings();
  const { registry, root, now } = options;
  if (root !== undefined) rootFile(findings, root);
  if (registry === undefined || root === undefined) {
    if ((registry === undefined) !== (root === undefined))
      findings.fail(
        'registry',
        `--${registry === undefined ? 'root' : 'registry'} is given, but not the other one`,
        'Give both --registry and --root, or neither: models are only taken with a root of trust.',
      );
    else
      findings.skip(
        'registry',
        'no --registry is given, so the car takes no models',
        'Give --registry and --root if it should.',
      );
    return findings;
  }
  const dir = mkdtempSync(join(tmpdir(), 'cardan-doctor-'));
  try {
    const known = join(options.dataDir, 'updates', 'metadata');
    if (existsSync(known)) cpSync(known, dir, { recursive: true });
    await new TufClient({
      dir,
      rootPath: root,
      metadataUrl: `${registry}/v1/tuf`,
      targetsUrl: `${registry}/v1/targets`,
      downloader: new Downloader({ get: httpGet, stallMs: STALL_MS }),
      clock: now,
    }).refresh();
    findings.ok('registry', `${registry} answers, and what it serves is signed from this root`);
    expiry(findings, dir, now());
  } catch (error) {
    if (!(error instanceof CardanError)) throw error;
    // What is wrong with the file has its own line.
    if (error.code !== 'FILE_NOT_FOUND' && error.code !== 'FILE_NOT_READABLE')
      findings.fail(
        'registry',
        `${error.code}: ${error.message}`,
        ADVICE.get(error.code) ?? 'See docs/errors.md.',
      );
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return findings;
}

const SIGNED_OTHERWISE =
  'This --root is of another registry, or somebody is in the middle. Copy 1.root.json of the registry over a way that you trust.';
const ADVICE: ReadonlyMap<string, string> = new Map([
  ['HTTP_UNREACHABLE', 'Check the address in --registry, the network, and that the registry runs.'],
  ['HTTP_STATUS', 'Check the address in --registry: without a path, as in http://HOST:8090.'],
  ['TUF_SIGNATURE', SIGNED_OTHERWISE],
  ['TUF_MALFORMED', SIGNED_OTHERWISE],
  [
    'TUF_VERSION',
    'It serves older metadata than this car has seen: a backup was restored, or somebody replays it.',
  ],
  ['TUF_EXPIRED', 'Check the clock here first. If it is right, the registry has not renewed its signatures.'],
  ['TUF_HASH', 'A proxy or cache on the way may mix old and new files.'],
]);

/** Only its form; whether it fits is seen when the registry is asked. */
function rootFile(findings: Findings, path: string): void {
  const what = 'root of trust';
  try {
    const { version, expires } = signedOf(path);
    findings.ok(what, `${path} is version ${version}, until ${dayText(expires)}`);
  } catch (error) {
    findings.fail(
      what,
      `${path} is no root.json (${systemCode(error) ?? messageOf(error)})`,
      'Copy 1.root.json of the registry there.',
    );
  }
}

function signedOf(path: string): { version: number; expires: number } {
  const { signed } = JSON.parse(readFileSync(path, 'utf8')) as {
    signed?: { _type?: unknown; version?: unknown; expires?: unknown };
  };
  if (signed?._type !== 'root') throw new Error('its "_type" is not "root"');
  const { version } = signed;
  const expires = Date.parse(String(signed.expires));
  if (typeof version !== 'number' || Number.isNaN(expires)) throw new Error('version or expiry is missing');
  return { version, expires };
}

/** Of the newest root: that of the factory may have expired long ago. */
function expiry(findings: Findings, dir: string, now: number): void {
  const { version, expires } = signedOf(join(dir, 'root.json'));
  const days = daysUntil(expires, now);
  const text = `the newest is version ${version}, until ${dayText(expires)}, ${days} days`;
  if (days < DAYS_WARN)
    findings.warn('root expiry', text, 'Sign a new root at the registry before that day.');
  else findings.ok('root expiry', text);
}
