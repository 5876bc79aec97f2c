import type { FastifyInstance, FastifySchema } from 'fastify';
import type { Registry } from '../registry/registry.ts';
import { params, problem } from './schemas.ts';

/** Targets metadata with some thousand files has a few megabytes; a car takes no more than five. */
const METADATA_BYTES_MAX = 5_000_000;

const management = { tags: ['management'], security: [{ token: [] }] };
const waiting = {
  type: 'object',
  properties: {
    file: { type: 'string' },
    role: { type: 'string' },
    version: { type: 'integer' },
    expires: { type: 'string' },
    threshold: { type: 'integer', description: 'How many keys must sign.' },
    signatures: { type: 'integer', description: 'How many have.' },
    missing: {
      type: 'array',
      items: { type: 'string' },
      description: 'Ids of keys that may sign and have not.',
    },
  },
};
const waitingList = {
  description: 'What waits',
  content: {
    'application/json': {
      schema: { type: 'object', properties: { waiting: { type: 'array', items: waiting } } },
    },
  },
};
const file = params({ file: { type: 'string', maxLength: 64 } });

const listSchema: FastifySchema = {
  ...management,
  summary: 'Metadata that waits for signatures, as their keys are kept elsewhere',
  response: { 200: waitingList, '4xx': problem },
};
const getSchema: FastifySchema = {
  ...management,
  summary: 'Metadata that waits, with the signatures that it has',
  params: file,
  response: {
    200: {
      description: 'TUF metadata',
      content: { 'application/json': { schema: { type: 'object', additionalProperties: true } } },
    },
    '4xx': problem,
  },
};
const putSchema: FastifySchema = {
  ...management,
  summary:
    'Brings signatures for metadata that waits, or proposes a next root or targets with other keys. ' +
    'What enough have signed is published.',
  params: file,
  body: { type: 'object', properties: { signed: { type: 'object' }, signatures: { type: 'array' } } },
  response: {
    200: {
      description: 'What still waits',
      content: {
        'application/json': {
          schema: {
            type: 'object',
            properties: { published: { type: 'boolean' }, waiting: { type: 'array', items: waiting } },
          },
        },
      },
    },
    '4xx': problem,
  },
};

/**
 * Metadata whose keys are not on this machine. Who may sign it is told by the keys; the roles keep strangers from looking,
 * and from sending.
 */
export function signingRoutes(server: FastifyInstance, { registry }: { registry: Registry }): void {
  server.get('/v1/signing', { schema: listSchema, config: { role: 'viewer' } }, () => ({
    waiting: registry.tuf.waiting(),
  }));

  server.get<{ Params: { file: string } }>(
    '/v1/signing/:file',
    { schema: getSchema, config: { role: 'viewer' } },
    (request, reply) =>
      reply.header('content-type', 'application/json').send(registry.tuf.waitingFile(request.params.file)),
  );

  server.put<{ Params: { file: string }; Body: object }>(
    '/v1/signing/:file',
    { schema: putSchema, config: { role: 'operator' }, bodyLimit: METADATA_BYTES_MAX },
    async (request) => {
      // What is signed is the canonical form, so the bytes on the way do not matter.
      const bytes = Buffer.from(JSON.stringify(request.body));
      const published = await registry.tuf.bringSignatures(request.params.file, bytes);
      if (published) await registry.signaturesBrought();
      return { published, waiting: registry.tuf.waiting() };
    },
  );
}
