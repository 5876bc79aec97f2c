import { readFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { CardanError, messageOf } from '@cardan/shared';
import { registryClient, registryOptions, type RegistryOptions } from './registry-options.ts';
import { explain } from './rollout/explain.ts';
import type { RolloutRequest } from './rollout/plan.ts';
import type { RolloutView } from './rollout/rollout-service.ts';
import { printTable } from './table.ts';

interface CreateOptions extends RegistryOptions {
  model?: string;
  campaign?: string;
  plan?: string;
  id?: string;
  filter?: string;
  weight?: string;
  approval?: boolean;
  onFail?: 'pause' | 'rollback';
}

const COMMANDS = {
  approve: 'Approve it; somebody else than its maker must.',
  pause: 'Reach no more vehicles for now; those that have it keep it.',
  resume: 'Go on. The evidence of the stage begins anew.',
  stop: 'Give it up: cars go back to what they had.',
  rollback: 'The same, and also after it is done.',
  retry: 'Have the cars that failed to install it try again.',
} as const;

/** Adds `rollouts create | list | show | explain | approve | pause | resume | stop | rollback | retry`. */
export function rolloutsCommand(program: Command): void {
  const rollouts = program
    .command('rollouts')
    .description('How models and campaigns reach the fleet (docs/rollouts.md).');

  registryOptions(rollouts.command('create'))
    .description('Bring a model or a campaign to the fleet in stages.')
    .option('--model <name@version>', 'a version that is published')
    .option('--campaign <file>', 'a campaign that is not published yet, JSON')
    .option('--plan <file>', 'stages, gates, schedule, …, JSON; - for standard input; default as in the docs')
    .option('--id <id>', 'default NAME-VERSION')
    .option('--filter <rsql>', 'only vehicles that fit')
    .option('--weight <n>', 'of several for one vehicle the highest wins; default 0')
    .option('--approval', 'somebody must approve it before it starts')
    .addOption(
      new Option('--on-fail <what>', 'when a gate fails; default rollback').choices(['pause', 'rollback']),
    )
    .action(async (options: CreateOptions) => {
      const rollout = await registryClient(options).createRollout(requestOf(options));
      process.stderr.write(`rollout ${rollout.rollout} is ${rollout.status}\n`);
    });

  registryOptions(rollouts.command('list'))
    .description('List all rollouts.')
    .option('--json', 'one JSON line per rollout')
    .action(async ({ json = false, ...options }: RegistryOptions & { json?: boolean }) => {
      const all = await registryClient(options).rollouts();
      if (json) for (const rollout of all) process.stdout.write(`${JSON.stringify(rollout)}\n`);
      else printRollouts(all);
    });

  registryOptions(rollouts.command('show'))
    .description('Print a rollout as it stands, with the last look at its gates.')
    .argument('<id>')
    .action(async (id: string, options: RegistryOptions) => {
      process.stdout.write(`${JSON.stringify(await registryClient(options).rollout(id), null, 2)}\n`);
    });

  registryOptions(rollouts.command('explain'))
    .description('Print its whole story: each decision, when, and on which evidence.')
    .argument('<id>')
    .option('--json', 'one JSON line per event')
    .action(async (id: string, { json = false, ...options }: RegistryOptions & { json?: boolean }) => {
      const events = await registryClient(options).rolloutEvents(id);
      const lines = json ? events.map((event) => JSON.stringify(event)) : explain(events);
      for (const line of lines) process.stdout.write(`${line}\n`);
    });

  for (const [name, description] of Object.entries(COMMANDS))
    registryOptions(rollouts.command(name))
      .description(description)
      .argument('<id>')
      .option('--reason <text>', 'stands in its story')
      .action(async (id: string, { reason, ...options }: RegistryOptions & { reason?: string }) => {
        const rollout = await registryClient(options).commandRollout(id, name, reason);
        process.stderr.write(`rollout ${id} is ${rollout.status}\n`);
      });
}

function requestOf({
  model,
  campaign,
  plan,
  id,
  filter,
  weight,
  approval,
  onFail,
}: CreateOptions): RolloutRequest {
  const given: Record<string, unknown> = { id, filter, approval, onFail };
  if (model !== undefined) {
    const at = model.lastIndexOf('@');
    if (at < 1) throw new CardanError('USAGE', `--model is NAME@VERSION, not "${model}".`);
    given.model = { name: model.slice(0, at), version: model.slice(at + 1) };
  }
  if (campaign !== undefined) given.campaign = readJson(campaign);
  if (weight !== undefined) given.weight = Number(weight);
  // What the command line says wins over the file; what it does not say is not there.
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { ...(plan === undefined ? {} : (readJson(plan) as object)), ...said };
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path === '-' ? 0 : path, 'utf8'));
  } catch (cause) {
    if (cause instanceof SyntaxError)
      throw new CardanError('ROLLOUT_INVALID', `${path} is not JSON (${cause.message}).`, { cause });
    throw new CardanError('FILE_NOT_FOUND', `Cannot read ${path} (${messageOf(cause)}).`, { cause });
  }
}

function printRollouts(rollouts: readonly RolloutView[]): void {
  if (rollouts.length === 0) {
    process.stderr.write('There is no rollout yet.\n');
    return;
  }
  const cells = rollouts.map(({ rollout, status, stage, stages, part, createdAt, reason }) => [
    rollout,
    status,
    stage < 0 ? '-' : `${stages[stage]!.name}${part < 1 ? ` ${Math.round(100 * part)} %` : ''}`,
    createdAt,
    reason,
  ]);
  printTable([['ROLLOUT', 'STATUS', 'STAGE', 'CREATED', 'WHY'], ...cells]);
}
