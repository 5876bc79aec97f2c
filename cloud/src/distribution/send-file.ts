import type { FastifyReply } from 'fastify';

/** Of files whose name changes with their content. */
export const IMMUTABLE = 'public, max-age=31536000, immutable';

/** Streams a file with Range, If-None-Match and If-Modified-Since. The name is one of ours, never a caller's. */
export function sendFile(
  reply: FastifyReply,
  dir: string,
  name: string,
  type: string,
  cache = IMMUTABLE,
): FastifyReply {
  reply.header('content-type', type).header('cache-control', cache);
  return reply.sendFile(name, dir, { cacheControl: false, contentType: false, index: false });
}

/** Whether the caller has this version already (If-None-Match, RFC 9110 section 13.1.2). `etag` is without quotes. */
export function isFresh(reply: FastifyReply, etag: string): boolean {
  reply.header('etag', `"${etag}"`);
  const given = reply.request.headers['if-none-match'];
  if (given === undefined) return false;
  return (
    given.trim() === '*' || given.split(',').some((one) => one.trim().replace(/^W\//, '') === `"${etag}"`)
  );
}
