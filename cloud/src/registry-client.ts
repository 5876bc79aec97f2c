import { createHash } from 'node:crypto';
import { type CampaignRef, CardanError, messageOf, type ModelManifest } from '@cardan/shared';

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

/** The registry's HTTP API, as the trainer, the predictor and the command line use it. */
export class RegistryClient {
  private readonly url: string;
  private readonly token: string | undefined;

  constructor(url: string, token?: string) {
    this.url = url.replace(/\/+$/, '');
    this.token = token;
  }

  /** Uploads a model's files and publishes it. Errors: HTTP_UNREACHABLE, HTTP_STATUS. */
  async publish(files: ModelFiles, name: string): Promise<void> {
    for (const blob of [files.model, files.weights])
      await this.request(
        'PUT',
        `/v1/blobs/${createHash('sha256').update(blob).digest('hex')}`,
        blob,
        'application/octet-stream',
      );
    await this.request(
      'POST',
      `/v1/models/${encodeURIComponent(name)}/versions`,
      files.manifest,
      'application/json',
    );
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

  async campaigns(): Promise<CampaignEntry[]> {
    const answer = await this.request('GET', '/v1/campaigns');
    return (JSON.parse(answer.toString('utf8')) as { campaigns: CampaignEntry[] }).campaigns;
  }

  /** The document of a version, or of `latest`. */
  async campaign(id: string, version: string): Promise<unknown> {
    const path = `/v1/campaigns/${encodeURIComponent(id)}/${encodeURIComponent(version)}`;
    return JSON.parse((await this.request('GET', path)).toString('utf8'));
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
      );
    return bytes;
  }
}

/** What problem details (RFC 9457) say; whatever else came, its beginning. */
function reasonIn(bytes: Buffer): string {
  const text = bytes.toString('utf8').slice(0, 5000);
  try {
    const { code, detail } = JSON.parse(text) as { code?: string; detail?: string };
    if (detail !== undefined) return code === undefined ? detail : `${code}: ${detail}`;
  } catch {
    // Somebody else answers there.
  }
  return text.slice(0, 500);
}
