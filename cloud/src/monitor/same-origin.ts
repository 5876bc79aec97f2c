import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { CardanError } from '@cardan/shared';

/**
 * Refuses requests that a page of another site made the browser send (RFC 9110, 10.1 and the Fetch
 * Metadata request headers). What is no browser sends none of these headers, and may ask.
 * Throws UNAUTHORIZED.
 */
export function checkSameOrigin(headers: IncomingHttpHeaders): void {
  const site = headers['sec-fetch-site'];
  const { origin, host } = headers;
  const foreign =
    site !== undefined ? site !== 'same-origin' : origin !== undefined && !sameHost(origin, host);
  if (foreign)
    throw new CardanError('UNAUTHORIZED', 'Only this page itself may ask for that, not one of another site.');
}

/**
 * A service on the loopback address answers to the names of the loopback only. Otherwise a site whose name is
 * made to point to 127.0.0.1 could read it from a visitor's browser (DNS rebinding).
 * Throws UNAUTHORIZED.
 */
export function checkLoopbackHost(host: string | undefined): void {
  const name = (host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  if (name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0) return;
  throw new CardanError(
    'UNAUTHORIZED',
    'The monitor listens on the loopback address, and answers to it and to localhost only.',
  );
}

/** Whether an address to listen on is this machine's own. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function sameHost(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host;
}
