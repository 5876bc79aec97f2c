import type { Readable } from 'node:stream';
import fastifyStatic from '@fastify/static';
import swagger from '@fastify/swagger';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { type CampaignRef, CardanError } from '@cardan/shared';
import { BLOB_BYTES_MAX } from '../registry/blob-store.ts';
import type { CampaignVersion } from '../registry/campaign-projection.ts';
import type { Fleet } from '../registry/fleet.ts';
import type { Registry } from '../registry/registry.ts';
import { TufRepository } from '../registry/tuf-repository.ts';
import * as schema from './schemas.ts';
import { checkToken } from './token.ts';

export interface DistributionOptions {
  registry: Registry;
  fleet: Fleet;
  /** Without one, whoever reaches the port may write. */
  token: string | undefined;
  health: () => Record<string, unknown>;
}

const IMMUTABLE = 'public, max-age=31536000, immutable';
const TARGET = /^models\/([^/]+)\/([^/]+)\/([0-9a-f]{64})\.(manifest\.json|model\.json|weights\.bin)$/;
const CAMPAIGN_TARGET = /^campaigns\/([^/]+)\/([0-9a-f]{64})\.([^/]+)\.json$/;

/** Adds the routes of registry and distribution, and `GET /openapi.json` which describes them. */
export async function distributionApi(server: FastifyInstance, options: DistributionOptions): Promise<void> {
  await server.register(swagger, { openapi: schema.openapi });
  await server.register(fastifyStatic, { serve: false });
  await server.register(async (routes) => vehicleRoutes(routes, options));
  await server.register(async (routes) => managementReads(routes, options));
  await server.register(async (routes) => managementWrites(routes, options));
  await server.register(async (routes) => campaignReads(routes, options));
  await server.register(async (routes) => campaignWrites(routes, options));
  server.get('/health', { schema: schema.health }, () => options.health());
  server.get('/openapi.json', { schema: { hide: true } }, () => server.swagger());
}

/** What a car reads. Plain files, apart from `desired`: any cache may stand in between. */
function vehicleRoutes(server: FastifyInstance, { registry, fleet }: DistributionOptions): void {
  server.get<{ Params: { vehicle: string }; Querystring: { signalSet?: string } }>(
    '/v1/vehicles/:vehicle/desired',
    { schema: schema.desired },
    async (request, reply) => {
      // A car knows its columns better than the log does, where its boot event may not have arrived.
      const signalSet = request.query.signalSet ?? fleet.vehicles().get(request.params.vehicle) ?? '';
      const desired = registry.desired(signalSet, request.params.vehicle);
      const etag = `"${desired.generation}"`;
      reply.header('etag', etag).header('cache-control', 'no-cache');
      if (request.headers['if-none-match'] === etag) return reply.code(304).send();
      return desired;
    },
  );

  server.get<{ Params: { file: string } }>(
    '/v1/tuf/:file',
    { schema: schema.tuf },
    async (request, reply) => {
      const { file } = request.params;
      const kind = TufRepository.fileName(file);
      // The next root is asked for until it is there: nobody may remember that it was not.
      reply.header('cache-control', 'no-store');
      if (kind === undefined || !(await registry.tuf.has(file)))
        throw new CardanError('TUF_TARGET_UNKNOWN', `There is no metadata file ${file}.`);
      return sendFile(
        reply,
        registry.tuf.dir,
        file,
        'application/json',
        kind.immutable ? IMMUTABLE : 'no-cache',
      );
    },
  );

  server.get<{ Params: { '*': string } }>(
    '/v1/targets/*',
    { schema: schema.target },
    async (request, reply) => {
      const campaign = CAMPAIGN_TARGET.exec(request.params['*']);
      if (campaign !== null) return sendCampaign(reply, registry, campaign);
      const [, name = '', version = '', sha256 = '', file = ''] = TARGET.exec(request.params['*']) ?? [];
      const known = registry.versions(name).find(({ manifest }) => manifest.version === version);
      const hash =
        file === 'manifest.json'
          ? known?.manifestSha256
          : known?.manifest.files[file as 'model.json']?.sha256;
      if (hash === undefined || hash !== sha256 || (await registry.blobs.size(hash)) === undefined)
        throw new CardanError('TUF_TARGET_UNKNOWN', `There is no target ${request.params['*']}.`);
      return sendFile(
        reply,
        registry.blobs.dir,
        hash,
        file.endsWith('.json') ? 'application/json' : 'application/octet-stream',
      );
    },
  );
}

function managementReads(server: FastifyInstance, { registry }: DistributionOptions): void {
  server.get<{ Params: { sha256: string } }>(
    '/v1/blobs/:sha256',
    { schema: schema.getBlob },
    async (request, reply) => {
      const { sha256 } = request.params;
      if ((await registry.blobs.size(sha256)) === undefined)
        throw new CardanError('BLOB_UNKNOWN', `There is no blob ${sha256}.`);
      return sendFile(reply, registry.blobs.dir, sha256, 'application/octet-stream');
    },
  );

  server.get('/v1/models', { schema: schema.listModels }, () => ({
    models: registry.names().map((name) => ({
      name,
      versions: registry.versions(name).map(({ manifest, manifestSha256 }) => ({
        version: manifest.version,
        createdAt: manifest.createdAt,
        signalSet: manifest.signalSet.id,
        manifestSha256,
      })),
    })),
    decisions: registry.decisions(),
  }));

  server.get<{ Params: { name: string; version: string } }>(
    '/v1/models/:name/versions/:version',
    { schema: schema.getVersion },
    async (request, reply) => {
      const { name, version } = request.params;
      const found =
        version === 'latest' ? registry.versions(name).at(-1) : registry.version({ name, version });
      const sha256 = found?.manifestSha256 ?? '';
      if ((await registry.blobs.size(sha256)) === undefined)
        throw new CardanError('BLOB_UNKNOWN', `The manifest of ${name} ${version} is not in the blob store.`);
      return sendFile(reply, registry.blobs.dir, sha256, 'application/json', 'no-cache');
    },
  );
}

function campaignReads(server: FastifyInstance, { registry }: DistributionOptions): void {
  server.get('/v1/campaigns', { schema: schema.listCampaigns }, () => ({
    campaigns: registry.campaigns.all().map(({ id, live, versions }) => ({
      id,
      live: live ?? null,
      versions: versions.map(({ campaign, sha256, publishedAt }) => ({
        version: campaign.version,
        name: campaign.name,
        publishedAt,
        sha256,
      })),
    })),
  }));

  server.get<{ Params: CampaignRef }>(
    '/v1/campaigns/:id/:version',
    { schema: schema.getCampaign },
    (request, reply) => sendDocument(reply, registry.campaigns.version(request.params), 'no-cache'),
  );
}

function campaignWrites(server: FastifyInstance, { registry, token }: DistributionOptions): void {
  if (token) server.addHook('onRequest', async (request) => checkToken(request, token));

  server.post<{ Body: unknown }>('/v1/campaigns', { schema: schema.postCampaign }, async (request, reply) => {
    const { campaign, created } = await registry.campaigns.publish(request.body);
    reply.header('location', `/v1/campaigns/${campaign.id}/${campaign.version}`);
    return reply.code(created ? 201 : 200).send({ ...campaign, created });
  });

  server.delete<{ Params: { id: string } }>(
    '/v1/campaigns/:id',
    { schema: schema.deleteCampaign },
    async (request, reply) => {
      await registry.campaigns.withdraw(request.params.id);
      return reply.code(204).send();
    },
  );
}

function managementWrites(server: FastifyInstance, { registry, token }: DistributionOptions): void {
  // Before the body is read: a stranger cannot make the server take in anything.
  if (token) server.addHook('onRequest', async (request) => checkToken(request, token));
  server.addContentTypeParser('application/octet-stream', (_request, body, done) => done(null, body));

  server.put<{ Params: { sha256: string }; Body: Readable }>(
    '/v1/blobs/:sha256',
    { schema: schema.putBlob },
    async (request, reply) => {
      const created = await registry.blobs.put(request.params.sha256, bounded(request.body));
      return reply.code(created ? 201 : 200).send({ sha256: request.params.sha256, created });
    },
  );

  server.post<{ Body: { signalSet?: string; reason?: string } | undefined }>(
    '/v1/trainings',
    { schema: schema.postTraining },
    async (request, reply) => {
      const { signalSet = null, reason = 'requested over the API' } = request.body ?? {};
      return reply.code(202).send({ training: await registry.requestTraining({ signalSet, reason }) });
    },
  );

  void server.register(async (raw) => {
    // The manifest is signed and stored byte by byte as it came, so it must not pass through a parser.
    raw.removeContentTypeParser('application/json');
    raw.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    );
    raw.post<{ Params: { name: string }; Body: Buffer }>(
      '/v1/models/:name/versions',
      { schema: schema.postVersion },
      async (request, reply) => {
        const { model, created } = await registry.publish(request.params.name, request.body);
        reply.header('location', `/v1/models/${model.name}/versions/${model.version}`);
        return reply.code(created ? 201 : 200).send({ ...model, created });
      },
    );
  });
}

/** The document as it is signed. Throws TUF_TARGET_UNKNOWN for one that cars should not run (any more). */
function sendCampaign(reply: FastifyReply, registry: Registry, path: RegExpExecArray): FastifyReply {
  const [name, id = '', sha256 = '', version = ''] = path;
  const live = registry.campaigns.live(id);
  if (live?.campaign.version !== version || live.sha256 !== sha256)
    throw new CardanError('TUF_TARGET_UNKNOWN', `There is no target ${name}.`);
  return sendDocument(reply, live, IMMUTABLE);
}

/** At most 64 KB, so as a whole. */
function sendDocument(reply: FastifyReply, { bytes, sha256 }: CampaignVersion, cache: string): FastifyReply {
  reply.header('content-type', 'application/json').header('cache-control', cache);
  return reply.header('etag', `"${sha256}"`).send(bytes);
}

/** Streams a file with Range, If-None-Match and If-Modified-Since. The name is one of ours, never a caller's. */
function sendFile(
  reply: FastifyReply,
  dir: string,
  name: string,
  type: string,
  cache = IMMUTABLE,
): FastifyReply {
  reply.header('content-type', type).header('cache-control', cache);
  return reply.sendFile(name, dir, { cacheControl: false, contentType: false, index: false });
}

async function* bounded(body: Readable): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BLOB_BYTES_MAX)
      throw Object.assign(new Error(`A blob has at most ${BLOB_BYTES_MAX} bytes.`), { statusCode: 413 });
    yield chunk;
  }
}
