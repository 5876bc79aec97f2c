import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { CardanError, messageOf, parseCampaign } from '@cardan/shared';
import type { CampaignEntry } from './registry-client.ts';
import { registryClient, registryOptions, type RegistryOptions } from './registry-options.ts';
import { printTable } from './table.ts';

/** Adds `campaigns publish | list | show | withdraw`. */
export function campaignsCommand(program: Command): void {
  const campaigns = program
    .command('campaigns')
    .description('What the cars of the fleet collect (docs/campaigns.md).');

  registryOptions(campaigns.command('publish'))
    .description(
      'Publish a campaign: the cars that it names collect it from now on, and no other version of it.',
    )
    .argument('<file>', 'JSON; - for standard input')
    .action(async (path: string, options: RegistryOptions) => {
      const text = readDocument(path);
      // Here first: what is wrong is said without a registry, and with the place.
      parseCampaign(text);
      const { id, version, created } = await registryClient(options).publishCampaign(JSON.parse(text));
      const before = created ? '' : '; the registry had it, and cars collect it';
      process.stderr.write(`${id} version ${version} is published${before}\n`);
    });

  registryOptions(campaigns.command('list'))
    .description('List the campaigns of the fleet.')
    .option('--json', 'one JSON line per campaign')
    .action(async ({ json = false, ...options }: RegistryOptions & { json?: boolean }) => {
      const entries = await registryClient(options).campaigns();
      if (json) for (const entry of entries) process.stdout.write(`${JSON.stringify(entry)}\n`);
      else printCampaigns(entries);
    });

  registryOptions(campaigns.command('show'))
    .description('Print a campaign as the cars get it.')
    .argument('<id>')
    .argument('[version]', 'default the one that cars collect, or else the newest')
    .action(async (id: string, version: string | undefined, options: RegistryOptions) => {
      const document = await registryClient(options).campaign(id, version ?? 'latest');
      process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
    });

  registryOptions(campaigns.command('withdraw'))
    .description('Withdraw a campaign: no car collects it any more.')
    .argument('<id>')
    .action(async (id: string, options: RegistryOptions) => {
      await registryClient(options).withdrawCampaign(id);
      process.stderr.write(`${id} is withdrawn\n`);
    });
}

function readDocument(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw new CardanError('FILE_NOT_FOUND', `Cannot read the campaign ${path} (${messageOf(cause)}).`, {
      cause,
    });
  }
}

function printCampaigns(entries: readonly CampaignEntry[]): void {
  if (entries.length === 0) {
    process.stderr.write('No campaign was published yet.\n');
    return;
  }
  const cells = entries.map(({ id, live, versions }) => {
    const shown = versions.find(({ version }) => version === live) ?? versions.at(-1);
    return [id, live ?? 'withdrawn', String(versions.length), shown?.publishedAt ?? '', shown?.name ?? ''];
  });
  printTable([['CAMPAIGN', 'COLLECTED', 'VERSIONS', 'PUBLISHED', 'NAME'], ...cells]);
}
