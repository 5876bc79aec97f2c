import { createRemoteJWKSet, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose';
import { CardanError, messageOf } from '@cardan/shared';
import { type Actor, type Role, ROLES, unauthorized } from './access.ts';

export interface OidcOptions {
  /** As the tokens name it in `iss`; its `/.well-known/openid-configuration` names the keys. */
  issuer: string;
  /** One of the tokens' `aud`. */
  audience: string;
  /** Where a token names the roles of its bearer, for instance `roles` or `realm_access.roles`. */
  roleClaim: string;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  /** After asking for keys, tokens with unknown ones do not make it ask again for so long; default 30 s. */
  cooldownMs?: number;
}

/**
 * Asymmetric only, and named here: never what the token itself says. So `none` is refused, and so is a token that was
 * signed by HMAC with a public key as the secret (RFC 8725 sections 2.1 and 3.1).
 */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
/** By so much the clocks of issuer and registry may differ. */
const CLOCK_TOLERANCE_S = 60;
/** Keys are fetched again when they are older, so that one that was withdrawn does not live on. */
const KEYS_MAX_AGE_MS = 600_000;
const TIMEOUT_MS = 5000;
const DISCOVERY_BYTES_MAX = 64 * 1024;

/** People and machines by the JWTs of an OpenID Connect issuer. */
export class Oidc {
  private readonly options: OidcOptions;
  private keys: Promise<JWTVerifyGetKey> | undefined;

  /** Throws USAGE for an issuer without TLS: anybody on the way could sign for it. */
  constructor(options: OidcOptions) {
    this.options = options;
    checkUrl(options.issuer);
  }

  /** Whether this looks like a JWT, so that it is for `actorOf`. */
  static looksLike(token: string): boolean {
    return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token);
  }

  /** Throws UNAUTHORIZED, or HTTP_UNREACHABLE while the issuer's keys cannot be had. */
  async actorOf(token: string): Promise<Actor> {
    const { issuer, audience, roleClaim, clock = Date.now } = this.options;
    const keys = await this.keySet();
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_S,
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date(clock()),
      });
      return { name: `oidc:${payload.sub}`, roles: rolesIn(payload, roleClaim) };
    } catch (error) {
      if (isTokensFault(error)) throw unauthorized(`The issuer's token is refused: ${error.message}.`, error);
      throw this.unreachable(error);
    }
  }

  /** Where the keys are is asked once; who fails asks again the next time. */
  private keySet(): Promise<JWTVerifyGetKey> {
    this.keys ??= this.discover().catch((error: unknown) => {
      this.keys = undefined;
      throw this.unreachable(error);
    });
    return this.keys;
  }

  private async discover(): Promise<JWTVerifyGetKey> {
    const { issuer, cooldownMs = 30_000 } = this.options;
    const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: 'error' });
    const text = await answer.text();
    if (!answer.ok || text.length > DISCOVERY_BYTES_MAX) throw new Error(`${url} answers ${answer.status}`);
    const { issuer: named, jwks_uri: keys } = JSON.parse(text) as Record<string, unknown>;
    // OpenID Connect Discovery section 4.3: else one issuer could speak for another.
    if (named !== issuer) throw new Error(`${url} is of the issuer ${String(named)}, not of ${issuer}`);
    return createRemoteJWKSet(checkUrl(String(keys)), {
      cooldownDuration: cooldownMs,
      cacheMaxAge: KEYS_MAX_AGE_MS,
      timeoutDuration: TIMEOUT_MS,
    });
  }

  private unreachable(cause: unknown): CardanError {
    return new CardanError(
      'HTTP_UNREACHABLE',
      `The keys of the issuer ${this.options.issuer} cannot be had (${messageOf(cause)}). Try again later.`,
      { cause },
    );
  }
}

function isTokensFault(error: unknown): error is Error {
  return (
    error instanceof errors.JOSEError &&
    !(error instanceof errors.JWKSTimeout) &&
    !(error instanceof errors.JWKSInvalid) &&
    error.code !== 'ERR_JOSE_GENERIC'
  );
}

/** The roles that the claim names, as an array or as words; others in it are of other applications. */
function rolesIn(payload: JWTPayload, claim: string): Set<Role> {
  let value: unknown = payload[claim];
  if (value === undefined)
    value = claim
      .split('.')
      .reduce<unknown>(
        (at, part) =>
          typeof at === 'object' && at !== null && Object.hasOwn(at, part)
            ? (at as Record<string, unknown>)[part]
            : undefined,
        payload,
      );
  const named: unknown[] = typeof value === 'string' ? value.split(' ') : Array.isArray(value) ? value : [];
  return new Set(ROLES.filter((role) => named.includes(role)));
}

function checkUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const local = url !== undefined && ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname);
  if (url?.protocol === 'https:' || (url?.protocol === 'http:' && local)) return url;
  throw new CardanError('USAGE', `An OIDC issuer and its keys need an https address, not ${text}.`);
}
