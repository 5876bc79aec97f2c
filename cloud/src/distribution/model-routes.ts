import type { FastifyInstance } from 'fastify';
import { CardanError } from '@cardan/shared';
import { modelCard } from '../models/model-card.ts';
import type { ModelSummary } from '../registry/model-projection.ts';
import { CHAMPION, type Registry } from '../registry/registry.ts';
import { checkRole } from './access.ts';
import * as schema from './model-schemas.ts';
import { type List, type PageQuery, sendList, sorted } from './page.ts';
import { postVersion } from './schemas.ts';
import { sendFile } from './send-file.ts';

/** Versions that are shown with a model; all of them are at `/versions`. */
const NEWEST = 100;

/** Models and their immutable versions. */
export async function modelRoutes(
  server: FastifyInstance,
  { registry }: { registry: Registry },
): Promise<void> {
  const shown = (name: string) => ({
    name,
    aliases: registry.aliases(name),
    versions: registry.newest(name, NEWEST),
  });

  server.get('/v1/models', { schema: schema.listModels, config: { role: 'viewer' } }, (request, reply) => {
    const list: List<string> = {
      after: sorted(registry.names(), (name) => name),
      keyOf: (name) => name,
      show: shown,
    };
    return sendList(request, reply, list, 'models', { decisions: registry.decisions() });
  });

  server.get<{ Params: { name: string } }>(
    '/v1/models/:name',
    { schema: schema.getModel, config: { role: 'viewer' } },
    (request) => {
      const model = shown(request.params.name);
      // As TensorFlow Serving says it: clients of it wait for this before they ask.
      const status = { error_code: 'OK', error_message: '' };
      const model_version_status = model.versions.map(({ version }) => ({
        version,
        state: 'AVAILABLE',
        status,
      }));
      return { ...model, model_version_status };
    },
  );

  server.get<{ Params: { name: string }; Querystring: PageQuery }>(
    '/v1/models/:name/versions',
    { schema: schema.listVersions, config: { role: 'viewer' } },
    (request, reply) => {
      const list: List<ModelSummary> = {
        after: (key = '0') => {
          const n = Number(key);
          if (!Number.isSafeInteger(n))
            throw new CardanError('CURSOR_INVALID', 'The cursor is not one of this list. Begin without one.');
          return registry.published(request.params.name, n);
        },
        keyOf: ({ n }) => String(n),
        // Without its place, which is the cursor's matter.
        show: (summary) => ({ ...summary, n: undefined }),
      };
      return sendList(request, reply, list, 'versions');
    },
  );

  server.get<{ Params: { name: string; version: string } }>(
    '/v1/models/:name/versions/:version',
    { schema: schema.getVersion, config: { role: 'viewer' } },
    async (request, reply) => {
      const ref = registry.resolve(request.params.name, request.params.version);
      const { manifestSha256 } = registry.version(ref);
      if ((await registry.blobs.size(manifestSha256)) === undefined)
        throw new CardanError(
          'BLOB_UNKNOWN',
          `The manifest of ${ref.name} ${ref.version} is not in the blob store.`,
        );
      return sendFile(reply, registry.blobs.dir, manifestSha256, 'application/json', 'no-cache');
    },
  );

  server.get<{ Params: { name: string; version: string } }>(
    '/v1/models/:name/versions/:version/MODEL.md',
    { schema: schema.getCard, config: { role: 'viewer' } },
    (request, reply) => {
      const { manifest } = registry.version(registry.resolve(request.params.name, request.params.version));
      return reply
        .header('content-type', 'text/markdown; charset=utf-8')
        .header('cache-control', 'no-cache')
        .send(modelCard(manifest));
    },
  );

  labelRoutes(server, registry);

  await server.register(async (raw) => {
    // The manifest is signed and stored byte by byte as it came, so it must not pass through a parser.
    raw.removeContentTypeParser('application/json');
    raw.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    );
    raw.post<{ Params: { name: string }; Querystring: { trial?: boolean }; Body: Buffer }>(
      '/v1/models/:name/versions',
      { schema: postVersion, config: { role: 'operator' } },
      async (request, reply) => {
        const { model, created } = await registry.publish(
          request.params.name,
          request.body,
          request.actor.name,
          { trial: request.query.trial ?? false },
        );
        reply.header('location', `/v1/models/${model.name}/versions/${model.version}`);
        return reply.code(created ? 201 : 200).send({ ...model, created });
      },
    );
  });
}

/** Aliases and tags: what may change about a version. */
function labelRoutes(server: FastifyInstance, registry: Registry): void {
  server.put<{ Params: { name: string; alias: string }; Body: { version: string } }>(
    '/v1/models/:name/aliases/:alias',
    { schema: schema.putAlias, config: { role: 'operator' } },
    async (request, reply) => {
      const { name, alias } = request.params;
      // It changes what a whole fleet runs, past all stages.
      if (alias === CHAMPION) checkRole(request.actor, 'approver');
      await registry.setAlias(name, alias, request.body.version, request.actor.name);
      return reply.code(204).send();
    },
  );

  server.delete<{ Params: { name: string; alias: string } }>(
    '/v1/models/:name/aliases/:alias',
    { schema: schema.deleteAlias, config: { role: 'operator' } },
    async (request, reply) => {
      const { name, alias } = request.params;
      await registry.setAlias(name, alias, null, request.actor.name);
      return reply.code(204).send();
    },
  );

  server.get<{ Params: { name: string; version: string } }>(
    '/v1/models/:name/versions/:version/tags',
    { schema: schema.getTags, config: { role: 'viewer' } },
    (request) => {
      const ref = registry.resolve(request.params.name, request.params.version);
      const aliases = Object.entries(registry.aliases(ref.name));
      return {
        version: ref.version,
        aliases: aliases.flatMap(([alias, version]) => (version === ref.version ? [alias] : [])),
        tags: registry.tags(ref),
      };
    },
  );

  server.put<{ Params: { name: string; version: string }; Body: Record<string, string | null> }>(
    '/v1/models/:name/versions/:version/tags',
    { schema: schema.putTags, config: { role: 'operator' } },
    async (request, reply) => {
      await registry.setTags(request.params, request.body, request.actor.name);
      return reply.code(204).send();
    },
  );
}
