import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import type { Command } from 'commander';
import { CardanError, messageOf } from '@cardan/shared';
import type { Registered } from './fleet/fleet.ts';
import { readRegistration, type Vehicle } from './fleet/vehicle.ts';
import { registryClient, registryOptions, type RegistryOptions } from './registry-options.ts';

/** Vehicles of one request: about a megabyte, and a second of the registry at the most. */
const PART = 5000;

/** Adds `vehicles register | list | show`. */
export function vehiclesCommand(program: Command): void {
  const vehicles = program.command('vehicles').description('The vehicles of the fleet (docs/fleet.md).');

  registryOptions(vehicles.command('register'))
    .description('Register vehicles, one JSON line each; those that are registered take what is given.')
    .argument('<file>', '{"id": …, "attributes": {…}} a line; - for standard input')
    .option('--tokens <file>', 'make a token for each, and write them to this new file for the cars')
    .action(async (path: string, { tokens, ...options }: RegistryOptions & { tokens?: string }) => {
      const total: Registered = { created: 0, changed: 0, unchanged: 0 };
      const out = tokens === undefined ? undefined : await newFile(tokens);
      for await (const part of parts(registrations(path, out))) {
        const { created, changed, unchanged } = await registryClient(options).registerVehicles(part);
        total.created += created;
        total.changed += changed;
        total.unchanged += unchanged;
      }
      if (out !== undefined) await finished(out.end());
      process.stderr.write(`${total.created} new, ${total.changed} changed, ${total.unchanged} as before\n`);
    });

  registryOptions(vehicles.command('list'))
    .description('List the vehicles by their ids.')
    .option('--filter <rsql>', 'only those that fit, for example "region==north;year=ge=2020"', '')
    .option('--json', 'one JSON line per vehicle')
    .action(async ({ filter, json = false, ...options }: ListOptions) => {
      for await (const page of registryClient(options).vehicles(filter))
        for (const vehicle of page)
          process.stdout.write(`${json ? JSON.stringify(vehicle) : lineOf(vehicle)}\n`);
    });

  registryOptions(vehicles.command('show'))
    .description('Show a vehicle.')
    .argument('<id>')
    .action(async (id: string, options: RegistryOptions) => {
      process.stdout.write(`${JSON.stringify(await registryClient(options).vehicle(id), null, 2)}\n`);
    });
}

interface ListOptions extends RegistryOptions {
  filter: string;
  json?: boolean;
}

/** The lines of the file, checked here first, so that what is wrong is said with its line. Throws FILE_NOT_FOUND. */
async function* registrations(path: string, tokens: WriteStream | undefined): AsyncGenerator<string> {
  const input = path === '-' ? process.stdin : createReadStream(path);
  try {
    if (path !== '-') await once(input, 'open');
  } catch (cause) {
    throw new CardanError('FILE_NOT_FOUND', `Cannot read the vehicles in ${path} (${messageOf(cause)}).`, {
      cause,
    });
  }
  let number = 0;
  for await (const line of createInterface({ input, crlfDelay: Infinity })) {
    number++;
    if (line.trim() === '') continue;
    const registration = readLine(line, number);
    if (tokens === undefined || registration.tokenSha256 !== undefined) {
      yield line;
      continue;
    }
    const token = randomBytes(32).toString('base64url');
    const tokenSha256 = createHash('sha256').update(token).digest('hex');
    if (!tokens.write(`${JSON.stringify({ id: registration.id, token })}\n`)) await once(tokens, 'drain');
    yield JSON.stringify({ ...registration, tokenSha256 });
  }
}

function readLine(line: string, number: number): ReturnType<typeof readRegistration> {
  try {
    return readRegistration(JSON.parse(line));
  } catch (cause) {
    throw new CardanError('VEHICLE_INVALID', `Line ${number}: ${messageOf(cause)}`, { cause });
  }
}

async function* parts(lines: AsyncIterable<string>): AsyncGenerator<string[]> {
  let part: string[] = [];
  for await (const line of lines) {
    if (part.push(line) < PART) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}

/** For the eyes of its owner only; one that is there is not overwritten, as cars may have what is in it. */
async function newFile(path: string): Promise<WriteStream> {
  const file = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  try {
    await once(file, 'open');
  } catch (cause) {
    throw new CardanError('USAGE', `Cannot make the file ${path} (${messageOf(cause)}). Name a new one.`, {
      cause,
    });
  }
  return file;
}

function lineOf({ id, online, lastSeen, reported, attributes }: Vehicle): string {
  const active = reported?.active;
  return [
    id.padEnd(20),
    (online === null ? '-' : online ? 'online' : 'offline').padEnd(8),
    (lastSeen ?? 'never').padEnd(25),
    (active == null ? '-' : `${active.name} ${active.version}`).padEnd(20),
    Object.entries(attributes)
      .map(([name, value]) => `${name}=${value}`)
      .join(' '),
  ]
    .join(' ')
    .trimEnd();
}
