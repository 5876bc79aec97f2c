import type { FastifyInstance } from 'fastify';
import { CardanError } from '@cardan/shared';
import type { Registry } from '../registry/registry.ts';
import * as schema from './schemas.ts';
import { sendFile } from './send-file.ts';

/** Models and their immutable versions. */
export async function modelRoutes(
  server: FastifyInstance,
  { registry }: { registry: Registry },
): Promise<void> {
  server.get('/v1/models', { schema: schema.listModels, config: { role: 'viewer' } }, () => ({
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
    { schema: schema.getVersion, config: { role: 'viewer' } },
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

  await server.register(async (raw) => {
    // The manifest is signed and stored byte by byte as it came, so it must not pass through a parser.
    raw.removeContentTypeParser('application/json');
    raw.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    );
    raw.post<{ Params: { name: string }; Body: Buffer }>(
      '/v1/models/:name/versions',
      { schema: schema.postVersion, config: { role: 'operator' } },
      async (request, reply) => {
        const { model, created } = await registry.publish(
          request.params.name,
          request.body,
          request.actor.name,
        );
        reply.header('location', `/v1/models/${model.name}/versions/${model.version}`);
        return reply.code(created ? 201 : 200).send({ ...model, created });
      },
    );
  });
}
