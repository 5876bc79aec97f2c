import type { FastifyInstance } from 'fastify';

/** What an answer tells a browser that shows it: it is data, and nothing on it may run or be framed. */
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
};
const EXPOSED = 'ETag, Location, Link, Retry-After, Content-Range, Idempotency-Replayed';
const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE';
const ALLOWED = 'Authorization, Content-Type, If-None-Match, If-Match, Range, Idempotency-Key, Accept';
/** A browser asks again after ten minutes. */
const PREFLIGHT_SECONDS = '600';

export interface BrowserOptions {
  /** Origins whose pages may call the API, such as https://fleet.example; none by default. */
  corsOrigins: readonly string[];
  /** Whether the server speaks TLS, so that browsers may be told to come back with it only. */
  tls: boolean;
}

/** Security headers on every answer, and CORS for the origins that were named; nobody else's pages can call the API. */
export function browserHeaders(server: FastifyInstance, { corsOrigins, tls }: BrowserOptions): void {
  server.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS);
    if (tls) reply.header('strict-transport-security', 'max-age=31536000');
    if (corsOrigins.length === 0) return;
    const { origin } = request.headers;
    if (origin === undefined || !corsOrigins.includes(origin)) return;
    reply
      .header('access-control-allow-origin', origin)
      .header('cross-origin-resource-policy', 'cross-origin');
    reply.header('access-control-expose-headers', EXPOSED);
    const asked = request.headers['access-control-request-method'];
    if (request.method !== 'OPTIONS' || asked === undefined) return;
    return reply
      .code(204)
      .header('access-control-allow-methods', METHODS)
      .header('access-control-allow-headers', ALLOWED)
      .header('access-control-max-age', PREFLIGHT_SECONDS)
      .send();
  });
  if (corsOrigins.length === 0) return;
  // At the end: what a route says that its answer varies by stays beside it.
  server.addHook('onSend', async (_request, reply) => {
    const names = [reply.getHeader('vary'), 'Origin'].flat().filter((name) => name !== undefined);
    reply.header('vary', names.join(', '));
  });
}
