import { createHash } from 'node:crypto';
import {
  type Campaign,
  type CampaignRef,
  campaignInvalid,
  CAMPAIGN_TARGET_BYTES_MAX,
  isEvent,
  isForVehicleId,
  readCampaign,
  recordToEvent,
  type VehicleSelector,
} from '@cardan/shared';
import type { LogRecord } from '@cardan/shared/event-log';
import { SelectorIndex } from './selector-index.ts';

/** A version of a campaign, as it was published. */
export interface CampaignVersion {
  campaign: Campaign;
  /** The file that cars get. */
  bytes: Buffer;
  sha256: string;
  /** When it was published first, RFC 3339. */
  publishedAt: string;
}

/** Of one campaign, by its id. */
interface Entry {
  versions: Map<string, CampaignVersion>;
  /** What cars should run; undefined when it is withdrawn. */
  live: string | undefined;
  /** For whom each change was: those that had it before and those that have it now. Newest last. */
  changes: { generation: number; vehicles: VehicleSelector[] }[];
}

interface Indexed {
  /** Its place among the campaigns. */
  number: number;
  id: string;
  entry: Entry;
}

/** What a vehicle should collect, and the newest change of it. */
export interface CampaignsDesired {
  generation: number;
  campaigns: CampaignRef[];
}

/** Different answers that are kept: vehicles differ in few ways, and where they do not each has its own. */
const SHARED_MAX = 10_000;

/** What the `campaigns` topic says: every version that was published, and which of them cars should run. */
export class CampaignProjection {
  /** Records that could not be read, and were passed over. */
  malformed = 0;
  /** The highest generation of any change. */
  generation = 0;
  private readonly entries = new Map<string, Entry>();
  /** Both made anew after a change. */
  private index: SelectorIndex<Indexed> | undefined;
  private sharedDesired = new Map<string, CampaignsDesired>();

  /** Takes in a record; says whether anything changed by it. The same one again changes nothing. */
  apply(record: LogRecord): boolean {
    try {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.campaign.published')) {
        const { generation, document } = event.data;
        return this.published(checkGeneration(generation), campaignVersion(document, event.time));
      }
      if (isEvent(event, 'io.cardan.campaign.withdrawn'))
        return this.withdrawn(checkGeneration(event.data.generation), event.data.id);
    } catch {
      this.malformed++;
    }
    return false;
  }

  ids(): string[] {
    return [...this.entries.keys()];
  }

  /** In the order in which they were published first. */
  versions(id: string): CampaignVersion[] {
    return [...(this.entries.get(id)?.versions.values() ?? [])];
  }

  version({ id, version }: CampaignRef): CampaignVersion | undefined {
    return this.entries.get(id)?.versions.get(version);
  }

  /** The version that cars should run; undefined when there is none, or no more. */
  live(id: string): CampaignVersion | undefined {
    const entry = this.entries.get(id);
    return entry?.live === undefined ? undefined : entry.versions.get(entry.live);
  }

  /** All that cars should run, of all vehicles. */
  allLive(): CampaignVersion[] {
    return this.ids().flatMap((id) => this.live(id) ?? []);
  }

  /**
   * What a vehicle should run, as far as its id tells, and the newest change that concerns it. undefined when none ever
   * did: most changes are for a few cars, and the others are not to be woken.
   */
  desired(vehicle: string): CampaignsDesired | undefined {
    this.index ??= this.newIndex();
    const candidates = this.index.candidates(vehicle);
    if (candidates.size === 0) return undefined;
    let generation = 0;
    const campaigns: CampaignRef[] = [];
    let key = '';
    // In the order of the campaigns: a vehicle is not woken by another one.
    for (const { number, id, entry } of [...candidates].sort((a, b) => a.number - b.number)) {
      const { live, versions, changes } = entry;
      const change = changes.findLast(({ vehicles }) =>
        vehicles.some((some) => isForVehicleId(some, vehicle)),
      );
      if (change === undefined) continue;
      generation = Math.max(generation, change.generation);
      const campaign = live === undefined ? undefined : versions.get(live)?.campaign;
      if (campaign === undefined || !isForVehicleId(campaign.vehicles, vehicle)) continue;
      campaigns.push({ id, version: campaign.version });
      key += `${number} `;
    }
    return generation === 0 ? undefined : this.shared(`${key}${generation}`, { generation, campaigns });
  }

  /** One object for all vehicles that have the same. */
  private shared(key: string, desired: CampaignsDesired): CampaignsDesired {
    const there = this.sharedDesired.get(key);
    if (there !== undefined) return there;
    if (this.sharedDesired.size < SHARED_MAX) this.sharedDesired.set(key, desired);
    return desired;
  }

  private newIndex(): SelectorIndex<Indexed> {
    const index = new SelectorIndex<Indexed>();
    let number = 0;
    for (const [id, entry] of this.entries) {
      const indexed = { number: number++, id, entry };
      for (const { vehicles } of entry.changes) for (const some of vehicles) index.add(some, indexed);
    }
    return index;
  }

  private published(generation: number, published: CampaignVersion): boolean {
    const { id, version } = published.campaign;
    const entry: Entry = this.entries.get(id) ?? { versions: new Map(), live: undefined, changes: [] };
    const there = entry.versions.get(version);
    // A version never changes: what came first stays.
    if (there !== undefined && there.sha256 !== published.sha256) return false;
    if (!this.changed(entry, generation, [published])) return false;
    this.entries.set(id, entry);
    if (there === undefined) entry.versions.set(version, published);
    entry.live = version;
    return true;
  }

  private withdrawn(generation: number, id: string): boolean {
    const entry = this.entries.get(id);
    if (entry?.live === undefined || !this.changed(entry, generation, [])) return false;
    entry.live = undefined;
    return true;
  }

  private changed(entry: Entry, generation: number, now: CampaignVersion[]): boolean {
    if (generation <= (entry.changes.at(-1)?.generation ?? 0)) return false;
    const before = entry.live === undefined ? undefined : entry.versions.get(entry.live);
    const vehicles = [...(before === undefined ? [] : [before]), ...now].map(
      ({ campaign }) => campaign.vehicles,
    );
    // The same vehicles as for a change before: only the newest tells them anything, and the list does not grow.
    const key = JSON.stringify(vehicles);
    entry.changes = entry.changes.filter((change) => JSON.stringify(change.vehicles) !== key);
    entry.changes.push({ generation, vehicles });
    this.index = undefined;
    this.sharedDesired = new Map();
    this.generation = Math.max(this.generation, generation);
    return true;
  }
}

/**
 * A document as it is signed: JSON without spaces. So what was checked is what cars get, also where the text had
 * a name twice. Throws CAMPAIGN_INVALID, naming the place.
 */
export function campaignVersion(document: unknown, publishedAt: string): CampaignVersion {
  const campaign = readCampaign(document);
  const bytes = Buffer.from(JSON.stringify(document));
  if (bytes.length > CAMPAIGN_TARGET_BYTES_MAX)
    throw campaignInvalid(
      `it has ${bytes.length} bytes without spaces; at most ${CAMPAIGN_TARGET_BYTES_MAX} go to cars`,
    );
  return { campaign, bytes, sha256: createHash('sha256').update(bytes).digest('hex'), publishedAt };
}

function checkGeneration(generation: unknown): number {
  if (typeof generation !== 'number' || !Number.isSafeInteger(generation) || generation < 1)
    throw new TypeError('no generation');
  return generation;
}
