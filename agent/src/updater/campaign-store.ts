import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Campaign,
  campaignInvalid,
  type CampaignRef,
  type CampaignReport,
  CardanError,
  messageOf,
  parseCampaign,
  replaceFile,
  syncFolder,
  systemCode,
} from '@cardan/shared';

/** A campaign that was verified once, with the hash of its document. */
export interface HeldCampaign {
  campaign: Campaign;
  sha256: string;
}

/** What the pointer file says. */
interface Pointer {
  /** Of the decision that asked for them. */
  generation: number;
  /** Version of the agent that wrote it; another one may be able to use what this one refused. */
  agent: string;
  campaigns: (CampaignRef & { sha256: string })[];
  refused: CampaignReport[];
}

export interface StoredCampaigns {
  generation: number;
  held: HeldCampaign[];
  refused: CampaignReport[];
  /** What could not be read; it is to be fetched anew. */
  damaged: CampaignReport[];
}

/**
 * Campaigns from the cloud, for a start without a network:
 *
 *     current.json              {generation, agent, campaigns, refused}, replaced in one step
 *     {sha256}.json             a document, as it was signed
 *     incoming.json             a download under way
 *
 * A document's name is the hash of what must be in it, so it proves itself whole.
 */
export class CampaignStore {
  private readonly dir: string;
  private readonly agent: string;

  constructor(dir: string, agent: string) {
    this.dir = dir;
    this.agent = agent;
  }

  /** Reads what is there; what is damaged does not keep the others from running. */
  async load(): Promise<StoredCampaigns> {
    let pointer: Pointer;
    try {
      pointer = parsePointer(await readFile(join(this.dir, 'current.json'), 'utf8'));
    } catch (cause) {
      // Nobody knows any more what was in it: generation 0 has the cloud say it again.
      const stored: StoredCampaigns = { generation: 0, held: [], refused: [], damaged: [] };
      if (systemCode(cause) !== 'ENOENT') stored.damaged.push(trouble(ALL, 'failed', cause));
      return stored;
    }
    const stored: StoredCampaigns = {
      generation: pointer.generation,
      held: [],
      refused: pointer.refused,
      damaged: [],
    };
    for (const { sha256, ...ref } of pointer.campaigns) {
      try {
        stored.held.push({ campaign: await this.read(`${sha256}.json`, ref, sha256), sha256 });
      } catch (cause) {
        stored.damaged.push(trouble(ref, 'failed', cause));
      }
    }
    if (stored.damaged.length > 0 || pointer.agent !== this.agent) stored.generation = 0;
    if (pointer.agent !== this.agent) stored.refused = [];
    return stored;
  }

  /**
   * Has a document downloaded by `fill`, checks that it is the campaign that was asked for, and keeps it under its
   * hash. Throws CAMPAIGN_INVALID for one that this car cannot use.
   */
  async add(ref: CampaignRef, sha256: string, fill: (path: string) => Promise<void>): Promise<HeldCampaign> {
    await mkdir(this.dir, { recursive: true });
    const incoming = join(this.dir, 'incoming.json');
    try {
      await fill(incoming);
      const campaign = await this.read('incoming.json', ref, sha256);
      await rename(incoming, join(this.dir, `${sha256}.json`));
      return { campaign, sha256 };
    } finally {
      await rm(incoming, { force: true });
    }
  }

  /** Makes these the ones that the next start begins with; other documents go. */
  async save(generation: number, held: readonly HeldCampaign[], refused: CampaignReport[]): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await syncFolder(this.dir);
    const pointer: Pointer = {
      generation,
      agent: this.agent,
      campaigns: held.map(({ campaign: { id, version }, sha256 }) => ({ id, version, sha256 })),
      refused,
    };
    await replaceFile(join(this.dir, 'current.json'), JSON.stringify(pointer));
    const kept = new Set(['current.json', ...held.map(({ sha256 }) => `${sha256}.json`)]);
    for (const name of await readdir(this.dir)) if (!kept.has(name)) await rm(join(this.dir, name));
  }

  private async read(name: string, ref: CampaignRef, sha256: string): Promise<Campaign> {
    const bytes = await readFile(join(this.dir, name));
    if (createHash('sha256').update(bytes).digest('hex') !== sha256)
      throw campaignInvalid(`the file of ${ref.id} ${ref.version} is damaged`);
    const campaign = parseCampaign(bytes);
    // What was signed as one campaign must not run under another's name (TUF: mix and match).
    if (campaign.id !== ref.id || campaign.version !== ref.version)
      throw campaignInvalid(
        `${ref.id} ${ref.version} was asked for, and this is ${campaign.id} ${campaign.version}`,
      );
    return campaign;
  }
}

/** In what is reported: all of them. No campaign can have this id. */
export const ALL: CampaignRef = { id: '*', version: '*' };

/** What is said of a campaign that does not run. */
export function trouble(
  { id, version }: CampaignRef,
  phase: 'failed' | 'refused',
  cause: unknown,
): CampaignReport {
  const error =
    cause instanceof CardanError
      ? { code: cause.code, message: cause.message }
      : // Everything else has a code by now, so this is the disk: full, read-only, broken.
        { code: 'DATA_DIR_NOT_WRITABLE', message: `Campaigns cannot be stored: ${messageOf(cause)}.` };
  return { id, version, phase, error };
}

function parsePointer(json: string): Pointer {
  const pointer = JSON.parse(json) as Pointer;
  const { generation, agent, campaigns, refused } = pointer;
  if (!Number.isSafeInteger(generation) || typeof agent !== 'string')
    throw campaignInvalid('current.json has no generation');
  for (const { id, version, sha256 } of campaigns)
    if (typeof id !== 'string' || typeof version !== 'string' || !/^[0-9a-f]{64}$/.test(sha256))
      throw campaignInvalid('current.json has an entry without a hash');
  for (const { id, version } of refused)
    if (typeof id !== 'string' || typeof version !== 'string')
      throw campaignInvalid('current.json has a refused entry without a name');
  return { generation, agent, campaigns, refused };
}
