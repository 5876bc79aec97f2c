import {
  type Campaign,
  campaignInvalid,
  type CampaignRef,
  type CampaignReport,
  CAMPAIGN_TARGET_BYTES_MAX,
  campaignTargetPath,
  CardanError,
  type VehicleDesired,
} from '@cardan/shared';
import { CAMPAIGNS_MAX } from '../campaign/collector.ts';
import { ALL, CampaignStore, trouble, type HeldCampaign } from './campaign-store.ts';
import type { TufClient } from './tuf-client.ts';
import { sha256Of } from './tuf-metadata.ts';

export interface CampaignUpdaterOptions {
  /** For documents. */
  dir: string;
  /** Version of the agent. */
  agent: string;
  tuf: TufClient;
  /** Time to the next try, milliseconds. */
  retryMs: (failures: number) => number;
  /** Waits; ends early when the signal aborts. */
  delay: (ms: number, signal: AbortSignal) => Promise<void>;
  /** These run from now on, and no others of the cloud's. When it throws, those before go on. */
  onCampaigns: (campaigns: readonly Campaign[]) => void;
  /** Those that do not run, with the reason; called when they have changed. */
  onTrouble: (trouble: readonly CampaignReport[]) => void;
}

/**
 * Keeps the car on the campaigns that the cloud wants. It works beside the models' updater, so that neither keeps the
 * other waiting.
 *
 * What is signed counts: a hint alone starts nothing and stops nothing. A campaign stops when the signed metadata no
 * longer names it. A new version takes the place of the old one when it is there and can be used; until then, and
 * when this car refuses it, the old one goes on.
 */
export class CampaignUpdater {
  private readonly options: CampaignUpdaterOptions;
  private readonly store: CampaignStore;
  private readonly stopped = new AbortController();
  /** Those that run, by id. */
  private held = new Map<string, HeldCampaign>();
  /** Those that this car cannot use, by id and version: not tried again. */
  private refused = new Map<string, CampaignReport>();
  private done = 0;
  /** Whether the disk knows of others than those that run. */
  private unsaved = false;
  private started = false;
  private wanted: VehicleDesired | undefined;
  private newHint = new AbortController();
  private working: Promise<void> | undefined;

  constructor(options: CampaignUpdaterOptions) {
    this.options = options;
    this.store = new CampaignStore(options.dir, options.agent);
  }

  /** Hands over the campaigns of before. Needs no network. */
  async start(): Promise<void> {
    const { generation, held, refused, damaged } = await this.store.load();
    this.refused = new Map(refused.map((report) => [keyOf(report), report]));
    this.handOver(new Map(held.map((one) => [one.campaign.id, one])));
    this.done = generation;
    this.unsaved = damaged.length > 0;
    this.tell(damaged);
    this.started = true;
    this.work();
  }

  /** What the cloud wants, as MQTT or the poll brought it. Comes back at once. */
  hint(desired: VehicleDesired): void {
    if (desired.generation <= (this.wanted?.generation ?? this.done)) return;
    this.wanted = desired;
    this.newHint.abort();
    this.newHint = new AbortController();
    this.work();
  }

  /** Resolves when there is nothing left to do or to try again. */
  async settled(): Promise<void> {
    while (this.working !== undefined) await this.working;
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    this.newHint.abort();
    await this.working;
  }

  private work(): void {
    if (!this.started || this.wanted === undefined || this.working !== undefined) return;
    if (this.stopped.signal.aborted) return;
    this.working = this.takeWanted().finally(() => {
      this.working = undefined;
      // A hint may have come between the last look and now.
      this.work();
    });
  }

  private async takeWanted(): Promise<void> {
    let failures = 0;
    while (this.wanted !== undefined && !this.stopped.signal.aborted) {
      const { wanted } = this;
      const failed = await this.take(wanted);
      if (this.stopped.signal.aborted) return;
      this.tell(failed);
      if (failed.length === 0) {
        this.done = wanted.generation;
        failures = 0;
        if (this.wanted === wanted) this.wanted = undefined;
      } else {
        if (this.wanted === wanted)
          await this.options.delay(this.options.retryMs(failures++), this.newHint.signal);
        if (this.wanted !== wanted) failures = 0;
      }
    }
  }

  /** Resolves to what could not be done and is worth another try. */
  private async take({ generation, campaigns = [] }: VehicleDesired): Promise<CampaignReport[]> {
    const refs = [...new Map(campaigns.map((ref) => [ref.id, ref])).values()];
    const missing = refs.filter((ref) => this.held.get(ref.id)?.campaign.version !== ref.version);
    const leaving = [...this.held.values()]
      .map(({ campaign }) => campaign)
      .filter(({ id }) => !refs.some((ref) => ref.id === id));
    // Where one leaves there is room for another.
    if (leaving.length > 0) this.refused.clear();
    const fetching = missing.filter((ref) => !this.refused.has(keyOf(ref)));
    // Most generations are about the model, or say what is so already.
    const settled = fetching.length === 0 && leaving.length === 0 && this.refused.size === missing.length;
    if (settled && !this.unsaved) return [];
    const signed = new Set<string>();
    try {
      await this.options.tuf.refresh();
      for (const ref of [...missing, ...[...this.held.values()].map(({ campaign }) => campaign)])
        if (await this.isSigned(ref)) signed.add(keyOf(ref));
    } catch (error) {
      const concerned = [...fetching, ...leaving];
      return (concerned.length > 0 ? concerned : [ALL]).map((ref) => trouble(ref, 'failed', error));
    }
    this.refused = new Map([...this.refused].filter(([key]) => missing.some((ref) => keyOf(ref) === key)));
    const next = new Map(
      [...this.held].filter(
        ([id, { campaign }]) =>
          signed.has(keyOf(campaign)) || missing.some((ref) => ref.id === id && signed.has(keyOf(ref))),
      ),
    );
    const failed = leaving
      .filter(({ id }) => next.has(id))
      .map((ref) => trouble(ref, 'failed', stillSigned(ref)));
    for (const ref of fetching) {
      try {
        next.set(ref.id, await this.fetch(ref, next));
      } catch (error) {
        if (error instanceof CardanError && error.code === 'CAMPAIGN_INVALID') this.refuse(ref, error);
        else failed.push(trouble(ref, 'failed', error));
      }
    }
    if (this.stopped.signal.aborted) return failed;
    this.handOver(next);
    this.unsaved = true;
    try {
      // With something still to be fetched, the next start has to ask again.
      const known = failed.length === 0 ? generation : 0;
      await this.store.save(known, [...this.held.values()], [...this.refused.values()]);
      this.unsaved = false;
    } catch (error) {
      failed.push(trouble(ALL, 'failed', error));
    }
    return failed;
  }

  private async fetch(ref: CampaignRef, next: ReadonlyMap<string, HeldCampaign>): Promise<HeldCampaign> {
    const target = await this.options.tuf.target(campaignTargetPath(ref));
    // Before a byte of it is downloaded.
    if (target.custom.id !== ref.id || target.custom.version !== ref.version)
      throw campaignInvalid(`what is signed as ${ref.id} ${ref.version} is for another campaign`);
    if (target.length > CAMPAIGN_TARGET_BYTES_MAX)
      throw campaignInvalid(
        `${ref.id} ${ref.version} has ${target.length} bytes; at most ${CAMPAIGN_TARGET_BYTES_MAX} fit`,
      );
    if (!next.has(ref.id) && next.size >= CAMPAIGNS_MAX)
      throw campaignInvalid(
        `${ref.id} ${ref.version} is one more than the ${CAMPAIGNS_MAX} that a car runs at once`,
      );
    return this.store.add(ref, sha256Of(target), (path) => this.options.tuf.download(target, path));
  }

  /** Whether the metadata of the last refresh names it. */
  private async isSigned(ref: CampaignRef): Promise<boolean> {
    try {
      await this.options.tuf.target(campaignTargetPath(ref));
      return true;
    } catch (error) {
      if (error instanceof CardanError && error.code === 'TUF_TARGET_UNKNOWN') return false;
      throw error;
    }
  }

  /** Lets these run. What the car does not take is refused, and keeps no other one out. */
  private handOver(next: ReadonlyMap<string, HeldCampaign>): void {
    const wanted = [...next.values()];
    const fresh = wanted.filter(({ campaign, sha256 }) => this.held.get(campaign.id)?.sha256 !== sha256);
    if (fresh.length === 0 && wanted.length === this.held.size) return;
    if (this.offer(next) === undefined) return;
    // One after the other, beside those that run already.
    let taken = new Map([...this.held].filter(([id]) => next.has(id)));
    this.offer(taken);
    for (const one of fresh) {
      const more = new Map(taken).set(one.campaign.id, one);
      const error = this.offer(more);
      if (error === undefined) taken = more;
      else this.refuse(one.campaign, error);
    }
  }

  private offer(campaigns: ReadonlyMap<string, HeldCampaign>): CardanError | undefined {
    try {
      this.options.onCampaigns([...campaigns.values()].map(({ campaign }) => campaign));
      this.held = new Map(campaigns);
      return undefined;
    } catch (error) {
      if (error instanceof CardanError) return error;
      throw error;
    }
  }

  private refuse(ref: CampaignRef, error: CardanError): void {
    this.refused.set(keyOf(ref), trouble(ref, 'refused', error));
  }

  private tell(failed: readonly CampaignReport[]): void {
    this.options.onTrouble([...this.refused.values(), ...failed]);
  }
}

function stillSigned({ id, version }: CampaignRef): CardanError {
  return new CardanError(
    'TUF_VERSION',
    `Campaign ${id} ${version} should stop, but the signed metadata still names it: it is older than the hint. ` +
      'Trying again.',
  );
}

function keyOf({ id, version }: CampaignRef): string {
  return `${id} ${version}`;
}
