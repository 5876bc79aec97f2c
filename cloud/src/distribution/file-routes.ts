import type { FastifyInstance, FastifyReply } from 'fastify';
import { CardanError } from '@cardan/shared';
import type { CampaignVersion } from '../registry/campaign-projection.ts';
import type { Registry } from '../registry/registry.ts';
import { TufRepository } from '../registry/tuf-repository.ts';
import * as schema from './schemas.ts';
import { IMMUTABLE, isFresh, sendFile } from './send-file.ts';

const TARGET = /^models\/([^/]+)\/([^/]+)\/([0-9a-f]{64})\.(manifest\.json|model\.json|weights\.bin)$/;
const CAMPAIGN_TARGET = /^campaigns\/([^/]+)\/([0-9a-f]{64})\.([^/]+)\.json$/;

/**
 * Metadata and targets: plain files that any cache or CDN may serve, so they are for anyone. What a car may run is told by
 * their signatures, not by who has sent them.
 */
export function fileRoutes(server: FastifyInstance, { registry }: { registry: Registry }): void {
  server.get<{ Params: { file: string } }>(
    '/v1/tuf/:file',
    { schema: schema.tuf, config: { role: 'anyone' } },
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
    { schema: schema.target, config: { role: 'anyone' } },
    async (request, reply) => {
      const campaign = CAMPAIGN_TARGET.exec(request.params['*']);
      if (campaign !== null) return sendCampaign(reply, registry, campaign);
      const [, name = '', version = '', sha256 = '', file = ''] = TARGET.exec(request.params['*']) ?? [];
      const known = registry.find({ name, version });
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

/** The document as it is signed. Throws TUF_TARGET_UNKNOWN for one that cars should not run (any more). */
function sendCampaign(reply: FastifyReply, registry: Registry, path: RegExpExecArray): FastifyReply {
  const [name, id = '', sha256 = '', version = ''] = path;
  const live = registry.campaigns.live(id);
  if (live?.campaign.version !== version || live.sha256 !== sha256)
    throw new CardanError('TUF_TARGET_UNKNOWN', `There is no target ${name}.`);
  return sendDocument(reply, live, IMMUTABLE);
}

/** At most 64 KB, so as a whole. */
export function sendDocument(
  reply: FastifyReply,
  { bytes, sha256 }: CampaignVersion,
  cache: string,
): FastifyReply {
  reply.header('content-type', 'application/json').header('cache-control', cache);
  return isFresh(reply, sha256) ? reply.code(304).send() : reply.send(bytes);
}
