import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { CardanError } from '@cardan/shared';
import { type Actor, ROLES, unauthorized } from './access.ts';

/** Who has the one token of `--token-file`. */
const OWNER: Actor = { name: 'token', roles: new Set(ROLES) };

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

/** The bearer token of a request; undefined without one. */
export function bearerOf({ headers }: FastifyRequest): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
}

/** Compares in a time that tells nothing of it. Throws UNAUTHORIZED. */
export function ownerOf(given: string, token: string): Actor {
  if (timingSafeEqual(digest(given), digest(token))) return OWNER;
  throw unauthorized('This token is not the right one.');
}

// Hashed first: timingSafeEqual compares equal lengths only.
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
