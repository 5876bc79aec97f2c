import { readFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { CardanError, messageOf, numberBetween } from '@cardan/shared';
import type { ServerTls } from '../http.ts';
import { Oidc, type OidcOptions } from './oidc.ts';

/** How the API is offered, beyond address and port. */
export interface ApiSettings {
  tls?: ServerTls | undefined;
  /** In front of the registry, and the header in which they name the car whose certificate they have checked. */
  proxies?: { addresses: readonly string[]; vehicleHeader: string } | undefined;
  oidc?: OidcOptions | undefined;
  /** Whether cars must prove who they are. */
  vehiclesIdentified?: boolean | undefined;
  corsOrigins?: readonly string[] | undefined;
  /** Requests of one caller; 0: no bound. */
  requestsPerMinute?: number | undefined;
}

/** Twenty a second: far more than a car or a person needs. */
export const REQUESTS_PER_MINUTE = 1200;
const VEHICLE_HEADER = 'X-Cardan-Vehicle';

export interface ApiFlags {
  tlsCert?: string;
  tlsKey?: string;
  clientCa?: string;
  trustedProxy?: string[];
  vehicleHeader: string;
  vehicleIdentity?: 'open' | 'required';
  oidcIssuer?: string;
  oidcAudience?: string;
  oidcRoleClaim: string;
  corsOrigin?: string[];
  rateLimit: number;
}

/** Adds the options of the registry's API (docs/api.md). */
export function apiOptions(command: Command): Command {
  const files = (name: string, what: string, env: string) => new Option(name, what).env(env);
  const list = (value: string, before: string[] = []) => [...before, ...value.split(',')];
  return command
    .optionsGroup('API of the registry:')
    .addOption(
      files('--tls-cert <file>', 'certificate of the registry (PEM): it speaks TLS', 'CARDAN_TLS_CERT'),
    )
    .addOption(files('--tls-key <file>', 'its key', 'CARDAN_TLS_KEY'))
    .addOption(
      files(
        '--client-ca <file>',
        'authority of the cars: a car is whom its certificate names',
        'CARDAN_CLIENT_CA',
      ),
    )
    .option('--trusted-proxy <address>', 'proxy or its network, whose headers are believed; repeatable', list)
    .option(
      '--vehicle-header <name>',
      'in which it names the car whose certificate it has checked',
      VEHICLE_HEADER,
    )
    .addOption(
      new Option(
        '--vehicle-identity <mode>',
        'whether cars must prove who they are; required with --client-ca',
      ).choices(['open', 'required']),
    )
    .addOption(
      files('--oidc-issuer <url>', 'whose JWTs are taken, too (OpenID Connect)', 'CARDAN_OIDC_ISSUER'),
    )
    .addOption(files('--oidc-audience <name>', 'for whom these must be', 'CARDAN_OIDC_AUDIENCE'))
    .option('--oidc-role-claim <path>', 'where these name the roles viewer, operator, approver', 'roles')
    .option('--cors-origin <origin>', 'whose pages may call the API; repeatable, default none', list)
    .option(
      '--rate-limit <n>',
      'most requests per minute of one caller; 0: no bound',
      numberBetween(0, 1e9, { whole: true }),
      REQUESTS_PER_MINUTE,
    )
    .optionsGroup('Options:');
}

/** Throws USAGE, FILE_NOT_FOUND. */
export function apiSettings(flags: ApiFlags): ApiSettings {
  const {
    tlsCert,
    tlsKey,
    clientCa,
    trustedProxy: addresses,
    vehicleHeader,
    oidcIssuer,
    oidcAudience,
  } = flags;
  together('--tls-cert', tlsCert, '--tls-key', tlsKey);
  together('--oidc-issuer', oidcIssuer, '--oidc-audience', oidcAudience);
  if (clientCa !== undefined && tlsCert === undefined)
    throw new CardanError('USAGE', '--client-ca needs --tls-cert and --tls-key: certificates come with TLS.');
  const oidc =
    oidcIssuer === undefined || oidcAudience === undefined
      ? undefined
      : { issuer: oidcIssuer, audience: oidcAudience, roleClaim: flags.oidcRoleClaim };
  if (oidc !== undefined) new Oidc(oidc);
  const corsOrigins = flags.corsOrigin ?? [];
  for (const origin of corsOrigins)
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      throw new CardanError('USAGE', `An origin is like https://fleet.example, not ${origin}.`);
  return {
    ...(tlsCert === undefined || tlsKey === undefined
      ? {}
      : {
          tls: {
            cert: read(tlsCert),
            key: read(tlsKey),
            clientCa: clientCa === undefined ? undefined : read(clientCa),
          },
        }),
    ...(addresses === undefined ? {} : { proxies: { addresses, vehicleHeader } }),
    oidc,
    vehiclesIdentified:
      (flags.vehicleIdentity ?? (clientCa === undefined ? 'open' : 'required')) === 'required',
    corsOrigins,
    requestsPerMinute: flags.rateLimit,
  };
}

function together(a: string, hasA: unknown, b: string, hasB: unknown): void {
  if ((hasA === undefined) !== (hasB === undefined))
    throw new CardanError('USAGE', `${a} and ${b} belong together.`);
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new CardanError('FILE_NOT_FOUND', `Cannot read ${path} (${messageOf(cause)}).`, { cause });
  }
}
