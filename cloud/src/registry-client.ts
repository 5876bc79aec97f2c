import { createHash } from 'node:crypto';
import {
  type CampaignRef,
  CardanError,
  type CloudEvent,
  messageOf,
  type ModelManifest,
  type ModelRef,
} from '@cardan/shared';
import type { Registered } from './fleet/fleet.ts';
import type { Vehicle } from './fleet/vehicle.ts';
import type { LoopStatus, ProposalView } from './loop/loop-desk.ts';
import type { ToldEvent } from './rollout/explain.ts';
import type { ModelSummary } from './registry/model-projection.ts';
import type { Waiting } from './registry/tuf-repository.ts';
import type { RolloutRequest } from './rollout/plan.ts';
import type { RolloutView } from './rollout/rollout-service.ts';

/** Files of a model, as bytes. */
export interface ModelFiles {
  manifest: Buffer;
  model: Buffer;
  weights: Buffer;
}

/** A campaign, as the registry lists it. */
export interface CampaignEntry {
  id: string;
  /** The version that cars should run; null: withdrawn. */
  live: string | null;
  versions: { version: string; name: string; publishedAt: string; sha256: string }[];
}

/** A version, as the registry lists it. */
export type VersionEntry = Omit<ModelSummary, 'n'>;

/** A model with its newest versions, oldest first. */
export interface ModelEntry {
  name: string;
  /** Alias → version. */
  aliases: Record<string, string>;
  versions: VersionEntry[];
}

/** The registry's HTTP API, as the trainer, the predictor and the command line use it. */
export class RegistryClient {
  private readonly url: string;
  private readonly token: string | undefined;

  constructor(url: string, token?: string) {
    this.url = url.replace(/\/+$/, '');
    this.token = token;
  }

  /**
   * Uploads a model's files and publishes it. Throws MODEL_EXISTS when the version has other content already,
   * HTTP_UNREACHABLE, HTTP_STATUS.
   */
  async publish(files: ModelFiles, name: string, { trial = false } = {}): Promise<void> {
    for (const blob of [files.model, files.weights])
      await this.request(
        'PUT',
        `/v1/blobs/${createHash('sha256').update(blob).digest('hex')}`,
        blob,
        'application/octet-stream',
      );
    const path = `/v1/models/${encodeURIComponent(name)}/versions${trial ? '?trial=true' : ''}`;
    try {
      await this.request('POST', path, files.manifest, 'application/json');
    } catch (error) {
      if (!(error instanceof CardanError) || error.cause !== MODEL_EXISTS) throw error;
      throw new CardanError('MODEL_EXISTS', error.message, { cause: error });
    }
  }

  /** Downloads the files that a manifest names. */
  async download(manifest: ModelManifest, manifestSha256: string): Promise<ModelFiles> {
    const blob = async (sha256: string) => this.request('GET', `/v1/blobs/${sha256}`);
    return {
      manifest: await blob(manifestSha256),
      model: await blob(manifest.files['model.json'].sha256),
      weights: await blob(manifest.files['weights.bin'].sha256),
    };
  }

  /** The model's files but for its manifest, as that names them. */
  async filesOf(manifest: ModelManifest): Promise<Omit<ModelFiles, 'manifest'>> {
    return {
      model: await this.request('GET', `/v1/blobs/${manifest.files['model.json'].sha256}`),
      weights: await this.request('GET', `/v1/blobs/${manifest.files['weights.bin'].sha256}`),
    };
  }

  /** In the order of their names. */
  models(): Promise<ModelEntry[]> {
    return this.pages('/v1/models', 'models');
  }

  /** All versions of a model, oldest first. */
  versions(name: string): Promise<VersionEntry[]> {
    return this.pages(`/v1/models/${encodeURIComponent(name)}/versions`, 'versions');
  }

  /** The version that a word names (a version, an alias, `latest`), and what else names it. */
  async labels(name: string, word: string): Promise<Pick<VersionEntry, 'version' | 'aliases' | 'tags'>> {
    const answer = await this.request('GET', `${versionPath({ name, version: word })}/tags`);
    return JSON.parse(answer.toString('utf8')) as Pick<VersionEntry, 'version' | 'aliases' | 'tags'>;
  }

  /** `manifest.json`, byte by byte as it was published. */
  manifest(ref: ModelRef): Promise<Buffer> {
    return this.request('GET', versionPath(ref));
  }

  /** `MODEL.md`, the model card; `version` may be an alias or `latest`. */
  async card(ref: ModelRef): Promise<string> {
    return (await this.request('GET', `${versionPath(ref)}/MODEL.md`)).toString('utf8');
  }

  /** null: the alias names nothing any more. */
  async setAlias(name: string, alias: string, version: string | null): Promise<void> {
    const path = `/v1/models/${encodeURIComponent(name)}/aliases/${encodeURIComponent(alias)}`;
    if (version === null) await this.request('DELETE', path);
    else await this.request('PUT', path, Buffer.from(JSON.stringify({ version })), 'application/json');
  }

  /** null takes a tag away; others stay. */
  async setTags(ref: ModelRef, tags: Record<string, string | null>): Promise<void> {
    const body = Buffer.from(JSON.stringify(tags));
    await this.request('PUT', `${versionPath(ref)}/tags`, body, 'application/json');
  }

  /** Asks for a training; resolves to its id. */
  async requestTraining(body: { signalSet?: string; reason?: string }): Promise<string> {
    const answer = await this.request(
      'POST',
      '/v1/trainings',
      Buffer.from(JSON.stringify(body)),
      'application/json',
    );
    return (JSON.parse(answer.toString('utf8')) as { training: string }).training;
  }

  /** Publishes a campaign; `created` is false when this version was there. */
  async publishCampaign(document: unknown): Promise<CampaignRef & { created: boolean }> {
    const body = Buffer.from(JSON.stringify(document));
    const answer = await this.request('POST', '/v1/campaigns', body, 'application/json');
    return JSON.parse(answer.toString('utf8')) as CampaignRef & { created: boolean };
  }

  async withdrawCampaign(id: string): Promise<void> {
    await this.request('DELETE', `/v1/campaigns/${encodeURIComponent(id)}`);
  }

  /** All of them, page by page. */
  async campaigns(): Promise<CampaignEntry[]> {
    const all: CampaignEntry[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const from: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const answer = await this.request('GET', `/v1/campaigns?limit=1000${from}`);
      const page = JSON.parse(answer.toString('utf8')) as { campaigns: CampaignEntry[]; next: string | null };
      all.push(...page.campaigns);
      cursor = page.next;
    }
    return all;
  }

  /** The document of a version, or of `latest`. */
  async campaign(id: string, version: string): Promise<unknown> {
    const path = `/v1/campaigns/${encodeURIComponent(id)}/${encodeURIComponent(version)}`;
    return JSON.parse((await this.request('GET', path)).toString('utf8'));
  }

  /** The same once more gives the rollout that is there. */
  async createRollout(rollout: RolloutRequest): Promise<RolloutView> {
    return this.json('POST', '/v1/rollouts', rollout);
  }

  /** `command`: `approve`, `pause`, `resume`, `stop`, `rollback` or `retry`. */
  async commandRollout(id: string, command: string, reason?: string): Promise<RolloutView> {
    return this.json('POST', `/v1/rollouts/${encodeURIComponent(id)}/${command}`, { reason });
  }

  async rollout(id: string): Promise<RolloutView> {
    return this.json('GET', `/v1/rollouts/${encodeURIComponent(id)}`);
  }

  async rolloutEvents(id: string): Promise<ToldEvent[]> {
    const path = `/v1/rollouts/${encodeURIComponent(id)}/events`;
    return (await this.json<{ events: ToldEvent[] }>('GET', path)).events;
  }

  async rollouts(): Promise<RolloutView[]> {
    const all: RolloutView[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const path = `/v1/rollouts?limit=1000${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const page: { rollouts: RolloutView[]; next: string | null } = await this.json('GET', path);
      all.push(...page.rollouts);
      cursor = page.next;
    }
    return all;
  }

  async loopStatus(): Promise<LoopStatus> {
    return this.json('GET', '/v1/loop');
  }

  /** What the loop has proposed, in the order of their ids. */
  proposals(): Promise<ProposalView[]> {
    return this.pages('/v1/loop/proposals', 'proposals');
  }

  async proposalEvents(id: string): Promise<CloudEvent[]> {
    const path = `/v1/loop/proposals/${encodeURIComponent(id)}/events`;
    return (await this.json<{ events: CloudEvent[] }>('GET', path)).events;
  }

  /** `command`: `approve` or `reject`. */
  async commandProposal(id: string, command: string, reason?: string): Promise<ProposalView> {
    return this.json('POST', `/v1/loop/proposals/${encodeURIComponent(id)}/${command}`, { reason });
  }

  private async json<T>(method: string, path: string, body?: object): Promise<T> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const answer = await this.request(method, path, bytes, bytes && 'application/json');
    return JSON.parse(answer.toString('utf8')) as T;
  }

  /** Metadata that waits for signatures. */
  async waiting(): Promise<Waiting[]> {
    const answer = await this.request('GET', '/v1/signing');
    return (JSON.parse(answer.toString('utf8')) as { waiting: Waiting[] }).waiting;
  }

  waitingFile(file: string): Promise<Buffer> {
    return this.request('GET', `/v1/signing/${file}`);
  }

  /** Sends metadata with more signatures; resolves to whether it is published, and what still waits. */
  async bringSignatures(file: string, bytes: Buffer): Promise<{ published: boolean; waiting: Waiting[] }> {
    const answer = await this.request('PUT', `/v1/signing/${file}`, bytes, 'application/json');
    return JSON.parse(answer.toString('utf8')) as { published: boolean; waiting: Waiting[] };
  }

  /** A file of signed metadata as cars get it; undefined when it is not there. */
  async metadata(file: string): Promise<Buffer | undefined> {
    try {
      return await this.request('GET', `/v1/tuf/${file}`);
    } catch (error) {
      if (error instanceof CardanError && error.cause === NOT_FOUND) return undefined;
      throw error;
    }
  }

  /** A list, page by page. */
  private async pages<T>(path: string, field: string): Promise<T[]> {
    const all: T[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const after: string = cursor === '' ? '' : `&cursor=${cursor}`;
      const answer = await this.request('GET', `${path}?limit=100${after}`);
      const page = JSON.parse(answer.toString('utf8')) as Record<string, T[]> & { next: string | null };
      all.push(...(page[field] ?? []));
      cursor = page.next;
    }
    return all;
  }

  /** Registers vehicles, one JSON text each. */
  async registerVehicles(lines: readonly string[]): Promise<Registered> {
    const body = Buffer.from(lines.join('\n'));
    const answer = await this.request('POST', '/v1/vehicles', body, 'application/x-ndjson');
    return JSON.parse(answer.toString('utf8')) as Registered;
  }

  /** Vehicles that fit an RSQL filter, by their ids, in pages. */
  async *vehicles(filter: string): AsyncGenerator<Vehicle[], void, undefined> {
    for (let cursor: string | null = ''; cursor !== null;) {
      const query = new URLSearchParams({ filter, limit: '1000' });
      if (cursor !== '') query.set('cursor', cursor);
      const answer = await this.request('GET', `/v1/vehicles?${query.toString()}`);
      const page = JSON.parse(answer.toString('utf8')) as { vehicles: Vehicle[]; next: string | null };
      yield page.vehicles;
      cursor = page.next;
    }
  }

  async vehicle(id: string): Promise<Vehicle> {
    const answer = await this.request('GET', `/v1/vehicles/${encodeURIComponent(id)}`);
    return JSON.parse(answer.toString('utf8')) as Vehicle;
  }

  private async request(method: string, path: string, body?: Buffer, type?: string): Promise<Buffer> {
    let response: Response;
    try {
      response = await fetch(this.url + path, {
        method,
        ...(body === undefined ? {} : { body: new Uint8Array(body) }),
        headers: {
          ...(type === undefined ? {} : { 'content-type': type }),
          ...(this.token === undefined ? {} : { authorization: `Bearer ${this.token}` }),
        },
        signal: AbortSignal.timeout(30_000),
      });
    } catch (cause) {
      throw new CardanError(
        'HTTP_UNREACHABLE',
        `The registry does not answer at ${this.url} (${messageOf(cause)}). Check that it runs, and the --registry address.`,
        { cause },
      );
    }
    const bytes = Buffer.from(await response.arrayBuffer());
    if (!response.ok)
      throw new CardanError(
        'HTTP_STATUS',
        `${method} ${path} at ${this.url}: ${response.status} ${reasonIn(bytes)}`,
        response.status === 404
          ? { cause: NOT_FOUND }
          : problemIn(bytes).code === 'MODEL_EXISTS'
            ? { cause: MODEL_EXISTS }
            : undefined,
      );
    return bytes;
  }
}

/** Why a request failed, where that makes a difference. */
const NOT_FOUND = Symbol('not found');
const MODEL_EXISTS = Symbol('model exists');

function versionPath({ name, version }: ModelRef): string {
  return `/v1/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}`;
}

/** What problem details (RFC 9457) say; whatever else came, its beginning. */
function reasonIn(bytes: Buffer): string {
  const { code, detail } = problemIn(bytes);
  if (detail !== undefined) return code === undefined ? detail : `${code}: ${detail}`;
  return bytes.toString('utf8').slice(0, 500);
}

function problemIn(bytes: Buffer): { code?: string; detail?: string } {
  try {
    const problem: unknown = JSON.parse(bytes.toString('utf8').slice(0, 5000));
    if (typeof problem === 'object' && problem !== null) return problem;
  } catch {
    // Somebody else answers there.
  }
  return {};
}
