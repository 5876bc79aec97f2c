import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { CardanError } from '@cardan/shared';

/**
 * Refuses to offer management routes to a network without a token. Throws TOKEN_REQUIRED for any host that is
 * not the machine itself.
 */
export function requireTokenFor(host: string, token: string | undefined): void {
  if (token || host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)) return;
  throw new CardanError(
    'TOKEN_REQUIRED',
    `Listening on ${host} would let anybody on the network publish models. ` +
      'Set a secret token (--token-file), or listen on 127.0.0.1.',
  );
}

/** Checks the bearer token of a request, in a time that tells nothing of it. Throws UNAUTHORIZED. */
export function checkToken(request: FastifyRequest, token: string): void {
  const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
  if (!timingSafeEqual(digest(given), digest(token)))
    throw new CardanError(
      'UNAUTHORIZED',
      'This needs the header "Authorization: Bearer TOKEN" with the right token.',
    );
}

// Hashed first: timingSafeEqual compares equal lengths only.
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
