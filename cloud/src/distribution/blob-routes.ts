import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { CardanError } from '@cardan/shared';
import { BLOB_BYTES_MAX } from '../registry/blob-store.ts';
import type { Registry } from '../registry/registry.ts';
import * as schema from './schemas.ts';
import { sendFile } from './send-file.ts';

/** Files by their hash: what is uploaded before a model is published. */
export function blobRoutes(server: FastifyInstance, { registry }: { registry: Registry }): void {
  server.get<{ Params: { sha256: string } }>(
    '/v1/blobs/:sha256',
    { schema: schema.getBlob, config: { role: 'viewer' } },
    async (request, reply) => {
      const { sha256 } = request.params;
      if ((await registry.blobs.size(sha256)) === undefined)
        throw new CardanError('BLOB_UNKNOWN', `There is no blob ${sha256}.`);
      return sendFile(reply, registry.blobs.dir, sha256, 'application/octet-stream', 'private, no-cache');
    },
  );

  server.addContentTypeParser('application/octet-stream', (_request, body, done) => done(null, body));
  server.put<{ Params: { sha256: string }; Body: Readable | undefined }>(
    '/v1/blobs/:sha256',
    { schema: schema.putBlob, config: { role: 'operator' } },
    async (request, reply) => {
      const created = await registry.blobs.put(
        request.params.sha256,
        bounded(request.body ?? Readable.from([])),
      );
      return reply.code(created ? 201 : 200).send({ sha256: request.params.sha256, created });
    },
  );
}

async function* bounded(body: Readable): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BLOB_BYTES_MAX)
      throw new CardanError('BODY_TOO_LARGE', `A blob has at most ${BLOB_BYTES_MAX} bytes.`);
    yield chunk;
  }
}
