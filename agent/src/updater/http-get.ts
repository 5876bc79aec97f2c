import { get as httpGetRequest, type IncomingMessage } from 'node:http';
import { get as httpsGetRequest } from 'node:https';

/** An answer, as the global `fetch` gives it, too. */
export interface HttpAnswer {
  status: number;
  ok: boolean;
  headers: { get(name: string): string | null };
  body: AsyncIterable<Uint8Array> | null;
}

export type HttpGet = (
  url: string,
  options: { headers: Record<string, string>; signal: AbortSignal },
) => Promise<HttpAnswer>;

/** A registry may send cars to a CDN, and that to another address of its own. */
const REDIRECTS_MAX = 5;

/** What a car shows at one address, and nowhere else. */
export interface Credentials {
  /** Scheme, host and port. */
  origin: string;
  /** PEM. */
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
  /** Bearer token. */
  token?: string;
}

/**
 * GET over HTTP or HTTPS. Like `fetch`, which would take 16 MB more of a car's memory. Rejects with the system's error
 * when there is no answer; also the body ends with an error when the connection breaks.
 */
export const httpGet: HttpGet = (url, options) => get(url, options);

/** The same for a car that says who it is. */
export function httpGetAs(credentials: Credentials): HttpGet {
  return (url, options) => get(url, options, credentials);
}

async function get(
  url: string,
  options: Parameters<HttpGet>[1],
  credentials?: Credentials,
): Promise<HttpAnswer> {
  let at = new URL(url);
  for (let redirects = 0; ; redirects++) {
    const answer = await request(at, options, at.origin === credentials?.origin ? credentials : undefined);
    const { statusCode: status = 0, headers } = answer;
    const isRedirect = [301, 302, 303, 307, 308].includes(status) && headers.location !== undefined;
    if (!isRedirect)
      return {
        status,
        ok: status >= 200 && status < 300,
        headers: { get: (name) => headers[name.toLowerCase()]?.toString() ?? null },
        body: answer,
      };
    answer.resume();
    if (redirects >= REDIRECTS_MAX) throw new Error(`more than ${REDIRECTS_MAX} redirects`);
    const next = new URL(headers.location!, at);
    // What was asked for over TLS is not taken without it.
    if (next.protocol !== 'https:' && (at.protocol === 'https:' || next.protocol !== 'http:'))
      throw new Error(`a redirect from ${at.origin} to ${next.origin}`);
    at = next;
  }
}

function request(
  url: URL,
  { headers, signal }: Parameters<HttpGet>[1],
  shown: Credentials | undefined,
): Promise<IncomingMessage> {
  const send = url.protocol === 'https:' ? httpsGetRequest : httpGetRequest;
  const { ca, cert, key, token } = shown ?? {};
  const all = token === undefined ? headers : { ...headers, authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    send(url, { headers: all, signal, ca, cert, key }, resolve).on('error', reject);
  });
}
