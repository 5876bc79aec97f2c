import type { FastifyRequest } from 'fastify';
import { CardanError } from '@cardan/shared';
import { type Actor, ROLES } from './access.ts';
import { isLoopback } from './rate-limit.ts';

/** Who has the one token of `--token-file`. */
export const OWNER: Actor = { name: 'token', roles: new Set(ROLES) };

/**
 * Refuses to offer management routes to a network without a proof of identity. Throws TOKEN_REQUIRED for any host that
 * is not the machine itself.
 */
export function requireIdentityFor(host: string, required: boolean): void {
  if (required || host === 'localhost' || isLoopback(host)) return;
  throw new CardanError(
    'TOKEN_REQUIRED',
    `Listening on ${host} would let anybody on the network publish models. ` +
      'Set a secret token (--token-file), make tokens (cardan-cloud tokens create), name an OIDC issuer, ' +
      'or listen on 127.0.0.1.',
  );
}

/** The bearer token of a request; undefined without one. */
export function bearerOf({ headers }: FastifyRequest): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
}
