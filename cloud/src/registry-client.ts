import { createHash } from 'node:crypto';
import { CardanError, messageOf, type ModelManifest } from '@cardan/shared';

/** Files of a model, as bytes. */
export interface ModelFiles {
  manifest: Buffer;
  model: Buffer;
  weights: Buffer;
}

/** The registry's HTTP API, as the trainer and the predictor use it. */
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
        `${method} ${path} at ${this.url}: ${response.status} ${bytes.toString('utf8').slice(0, 500)}`,
      );
    return bytes;
  }
}
