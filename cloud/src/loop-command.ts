import type { Command } from 'commander';
import { explainLoop } from './loop/explain.ts';
import type { ProposalView } from './loop/loop-desk.ts';
import { registryClient, registryOptions, type RegistryOptions } from './registry-options.ts';
import { printTable } from './table.ts';

const COMMANDS = {
  approve: 'Approve its training; or its rollout, when its candidate was judged.',
  reject: 'It goes no further.',
} as const;

/**
 * Whether a command line is about what the loop does. `loop` alone, or with options or other services behind it, is the
 * service; any other word is a command, if perhaps a mistyped one.
 */
export function isLoopCommand(argv: readonly string[], services: readonly string[]): boolean {
  const [, , name, next] = argv;
  if (name !== 'loop' || next === '--help' || next === '-h') return true;
  return next !== undefined && !next.startsWith('-') && !services.includes(next);
}

/** Adds `loop status | list | explain | approve | reject`. */
export function loopCommand(program: Command): void {
  const loop = program
    .command('loop')
    .description('What the closed loop sees, proposes and did (docs/closed-loop.md).');

  registryOptions(loop.command('status'))
    .description('Print drifts, and the proposal that is under way.')
    .action(async (options: RegistryOptions) => {
      process.stdout.write(`${JSON.stringify(await registryClient(options).loopStatus(), null, 2)}\n`);
    });

  registryOptions(loop.command('list'))
    .description('List all proposals.')
    .option('--json', 'one JSON line per proposal')
    .action(async ({ json = false, ...options }: RegistryOptions & { json?: boolean }) => {
      const all = await registryClient(options).proposals();
      if (json) for (const proposal of all) process.stdout.write(`${JSON.stringify(proposal)}\n`);
      else printProposals(all);
    });

  registryOptions(loop.command('explain'))
    .description('Print the whole story of a proposal: each step, when, and on which evidence.')
    .argument('<id>')
    .option('--json', 'one JSON line per event')
    .action(async (id: string, { json = false, ...options }: RegistryOptions & { json?: boolean }) => {
      const events = await registryClient(options).proposalEvents(id);
      const lines = json ? events.map((event) => JSON.stringify(event)) : explainLoop(events);
      for (const line of lines) process.stdout.write(`${line}\n`);
    });

  for (const [name, description] of Object.entries(COMMANDS))
    registryOptions(loop.command(name))
      .description(description)
      .argument('<id>')
      .option('--reason <text>', 'stands in its story')
      .action(async (id: string, { reason, ...options }: RegistryOptions & { reason?: string }) => {
        const proposal = await registryClient(options).commandProposal(id, name, reason);
        process.stderr.write(`proposal ${id} is ${proposal.status}: ${proposal.why}\n`);
      });
}

function printProposals(proposals: readonly ProposalView[]): void {
  if (proposals.length === 0) {
    process.stderr.write('The loop has proposed nothing yet.\n');
    return;
  }
  const cells = proposals.map(({ proposal, trigger, status, candidate, createdAt, why }) => [
    proposal,
    trigger,
    status,
    candidate === null ? '-' : candidate.version,
    createdAt,
    why,
  ]);
  printTable([['PROPOSAL', 'TRIGGER', 'STATUS', 'CANDIDATE', 'MADE', 'WHY'], ...cells]);
}
