import { join } from 'node:path';
import { Option, type Command } from 'commander';
import { CardanError, checkVehicleId, ensureDataDir } from '@cardan/shared';
import { openAccessDatabase } from './distribution/access-database.ts';
import { type Role, ROLES } from './distribution/access.ts';
import { TokenStore, type TokenEntry } from './distribution/token-store.ts';
import { printTable } from './table.ts';

interface DataOptions {
  data: string;
}

/** Adds `tokens create | list | revoke`. */
export function tokensCommand(program: Command): void {
  const tokens = program
    .command('tokens')
    .description("Who may use the registry's API (docs/api.md). Run it where the registry's files are.");

  dataOption(tokens.command('create'))
    .description('Make a token. It is printed once, and kept as a hash only.')
    .addOption(
      new Option('--role <role>', 'what its bearer may do; repeatable')
        .choices(ROLES)
        .argParser((role: string, before: Role[] = []) => [...before, checkRole(role)]),
    )
    .option('--vehicle <id>', 'it is the token of this car, and for nothing else')
    .option('--name <name>', 'who has it: stands in the events of what he does; default the token’s id')
    .option('--expires <time>', 'when it ends: 12h, 90d, or a time such as 2027-01-01T00:00Z')
    .action((options: CreateOptions) => {
      const { role: roles = [], vehicle, name, expires } = options;
      if ((roles.length === 0) === (vehicle === undefined))
        throw new CardanError('USAGE', 'Say --role (viewer, operator or approver), or --vehicle.');
      if (name !== undefined && !/^[\w.@:-]{1,64}$/.test(name))
        throw new CardanError('USAGE', 'A name has 1 to 64 of the characters A-Z a-z 0-9 _ . @ : -');
      const store = open(options);
      const { id, token } = store.create({
        roles,
        name,
        vehicle: vehicle === undefined ? undefined : checkVehicleId(vehicle),
        expiresAt: expires === undefined ? undefined : timeOf(expires),
      });
      process.stderr.write(`token ${id}; it is shown here and never again:\n`);
      process.stdout.write(`${token}\n`);
    });

  dataOption(tokens.command('list'))
    .description('List the tokens that were made; what they are is not to be had.')
    .option('--json', 'one JSON line per token')
    .action(({ json = false, ...options }: DataOptions & { json?: boolean }) => {
      const entries = open(options).list();
      if (json) for (const entry of entries) process.stdout.write(`${JSON.stringify(entry)}\n`);
      else printTokens(entries);
    });

  dataOption(tokens.command('revoke'))
    .description('Refuse a token from now on.')
    .argument('<id>')
    .action((id: string, options: DataOptions) => {
      open(options).revoke(id);
      process.stderr.write(`${id} is revoked\n`);
    });
}

interface CreateOptions extends DataOptions {
  role?: Role[];
  vehicle?: string;
  name?: string;
  expires?: string;
}

function dataOption(command: Command): Command {
  return command.addOption(
    new Option('--data <dir>', "the registry's folder of keys and model files")
      .env('CARDAN_DATA')
      .default('.cardan/cloud'),
  );
}

function open({ data }: DataOptions): TokenStore {
  return new TokenStore(openAccessDatabase(ensureDataDir(join(data, 'registry'))));
}

function checkRole(text: string): Role {
  const role = ROLES.find((one) => one === text);
  if (role === undefined)
    throw new CardanError('USAGE', `There is no role "${text}". Take one of: ${ROLES.join(', ')}.`);
  return role;
}

/** Milliseconds since 1970. */
function timeOf(text: string): number {
  const [, amount, unit] = /^([1-9]\d{0,4})([hd])$/.exec(text) ?? [];
  const at =
    amount === undefined
      ? Date.parse(text)
      : Date.now() + Number(amount) * (unit === 'h' ? 3_600_000 : 86_400_000);
  if (at > Date.now()) return at;
  throw new CardanError('USAGE', `--expires takes 12h, 90d, or a time to come, not ${text}.`);
}

function printTokens(entries: readonly TokenEntry[]): void {
  if (entries.length === 0) {
    process.stderr.write('No token was made yet.\n');
    return;
  }
  const cells = entries.map(({ id, name, roles, vehicle, createdAt, expiresAt, revokedAt }) => [
    id,
    name,
    vehicle === null ? roles.join(',') : `vehicle ${vehicle}`,
    createdAt,
    revokedAt !== null ? `revoked ${revokedAt}` : (expiresAt ?? 'never'),
  ]);
  printTable([['ID', 'NAME', 'FOR', 'CREATED', 'ENDS'], ...cells]);
}
