import {
  type CampaignRef,
  campaignInvalid,
  campaignTargetPath,
  CardanError,
  cloudEvent,
  ensureLogTopics,
  type EventData,
  type EventType,
  eventToRecord,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import {
  CampaignProjection,
  campaignVersion,
  type CampaignsDesired,
  type CampaignVersion,
} from './campaign-projection.ts';
import { Tail } from './tail.ts';
import type { Target } from './tuf-repository.ts';

const TOPIC = 'campaigns';
const SOURCE = '/services/registry';
/**
 * Most campaigns at once, of all vehicles: with it the targets metadata, which every car fetches, stays some
 * hundred kilobytes larger than without.
 */
export const LIVE_CAMPAIGNS_MAX = 1000;

export interface CampaignsOptions {
  log: EventLog;
  clock: () => number;
  /** Runs one change after the other: generations grow over models and campaigns together. */
  inTurn: <T>(task: () => Promise<T>) => Promise<T>;
  nextGeneration: () => number;
  /** Signs anew and tells the listeners, after something has changed. */
  settle: () => Promise<void>;
  onProblem: (error: CardanError) => void;
}

/**
 * The campaigns of a fleet: immutable versions, and which of them cars should run. A projection of the topic `campaigns`;
 * the documents are in the events, so nothing lives beside the log.
 */
export class Campaigns {
  private readonly options: CampaignsOptions;
  private readonly projection = new CampaignProjection();
  private unsettled = false;
  private tail: Tail | undefined;

  private constructor(options: CampaignsOptions) {
    this.options = options;
  }

  /** Resolves when the log has been replayed; nothing is settled for it. */
  static async open(options: CampaignsOptions): Promise<Campaigns> {
    const campaigns = new Campaigns(options);
    const { log, onProblem } = options;
    await ensureLogTopics(log, [TOPIC]);
    let replayed = false;
    campaigns.tail = await Tail.start({
      log,
      topic: TOPIC,
      apply: (batch) => {
        for (const record of batch.records)
          if (campaigns.projection.apply(record)) campaigns.unsettled = true;
      },
      settle: async () => {
        if (replayed && campaigns.unsettled) await options.settle();
        campaigns.unsettled = false;
        replayed = true;
      },
      onProblem,
    });
    return campaigns;
  }

  /** Records of the topic that could not be read. */
  get malformed(): number {
    return this.projection.malformed;
  }

  get generation(): number {
    return this.projection.generation;
  }

  /** Every campaign that was ever published, with its versions and the one that cars should run. */
  all(): { id: string; live: string | undefined; versions: CampaignVersion[] }[] {
    return this.projection.ids().map((id) => ({
      id,
      live: this.live(id)?.campaign.version,
      versions: this.projection.versions(id),
    }));
  }

  /** The version that cars should run; undefined when there is none, or no more. */
  live(id: string): CampaignVersion | undefined {
    return this.projection.live(id);
  }

  /** One version; `latest` is the one that cars should run, or else the newest. Throws CAMPAIGN_UNKNOWN. */
  version({ id, version }: CampaignRef): CampaignVersion {
    const found =
      this.projection.version({ id, version }) ??
      (version === 'latest' ? (this.projection.live(id) ?? this.projection.versions(id).at(-1)) : undefined);
    if (found === undefined)
      throw new CardanError(
        'CAMPAIGN_UNKNOWN',
        version === 'latest'
          ? `There is no campaign ${id}.`
          : `There is no version ${version} of a campaign ${id}.`,
      );
    return found;
  }

  desired(vehicle: string): CampaignsDesired | undefined {
    return this.projection.desired(vehicle);
  }

  /** What is to be signed: only what cars should run, so that a withdrawn one cannot be had any more. */
  targets(): Target[] {
    return this.projection.allLive().map(({ campaign: { id, version }, bytes, sha256 }) => ({
      path: campaignTargetPath({ id, version }),
      length: bytes.length,
      sha256,
      custom: { id, version },
    }));
  }

  /**
   * Publishes a version: from now on cars should run it, and no other of this id. Resolves when it is signed. An
   * earlier version with the same content may come back; the one that is live again changes nothing.
   * Throws CAMPAIGN_INVALID, CAMPAIGN_EXISTS (other content).
   */
  publish(document: unknown, actor?: string): Promise<{ campaign: CampaignRef; created: boolean }> {
    return this.options.inTurn(async () => {
      const { campaign, sha256 } = campaignVersion(document, '');
      const { id, version } = campaign;
      await this.tail?.caughtUp();
      const there = this.projection.version({ id, version });
      if (there !== undefined && there.sha256 !== sha256)
        throw new CardanError(
          'CAMPAIGN_EXISTS',
          `Version ${version} of the campaign ${id} is published with other content. Versions never change: take a new one.`,
        );
      const live = this.projection.live(id);
      if (live === undefined && this.projection.allLive().length >= LIVE_CAMPAIGNS_MAX)
        throw campaignInvalid(
          `there are ${LIVE_CAMPAIGNS_MAX} already, which is as many as a fleet can have; withdraw one first`,
        );
      if (live?.campaign.version === version) await this.options.settle();
      else {
        const generation = this.options.nextGeneration();
        await this.append('io.cardan.campaign.published', id, `published-${generation}`, {
          generation,
          document,
          ...(actor === undefined ? {} : { actor }),
        });
      }
      return { campaign: { id, version }, created: there === undefined };
    });
  }

  /** Resolves when it is signed that no car should run it. Once more is fine. Throws CAMPAIGN_UNKNOWN. */
  withdraw(id: string, actor?: string): Promise<void> {
    return this.options.inTurn(async () => {
      await this.tail?.caughtUp();
      this.version({ id, version: 'latest' });
      if (this.projection.live(id) === undefined) return this.options.settle();
      const generation = this.options.nextGeneration();
      await this.append('io.cardan.campaign.withdrawn', id, `withdrawn-${generation}`, {
        generation,
        id,
        ...(actor === undefined ? {} : { actor }),
      });
    });
  }

  /** Stops following the log. */
  async close(): Promise<void> {
    await this.tail?.close();
  }

  private async append<K extends EventType>(
    type: K,
    key: string,
    id: string,
    data: EventData[K],
  ): Promise<void> {
    const event = cloudEvent(type, { source: SOURCE, id, time: this.options.clock() }, data);
    await this.options.log.append(TOPIC, [eventToRecord(key, event)]);
    await this.tail?.caughtUp();
  }
}
