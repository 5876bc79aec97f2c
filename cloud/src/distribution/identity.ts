import { timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { FastifyRequest } from 'fastify';
import { CardanError, checkVehicleId } from '@cardan/shared';
import { type Actor, ANYBODY, NOBODY, type Role, unauthorized } from './access.ts';
import { Oidc } from './oidc.ts';
import { bearerOf, OWNER } from './token.ts';
import { sha256, type TokenStore } from './token-store.ts';

const NO_ROLES: ReadonlySet<Role> = new Set();

export interface IdentityOptions {
  tokens: TokenStore;
  /** The one of --token-file. */
  ownerToken?: string | undefined;
  oidc?: Oidc | undefined;
  /** SHA-256 of the token that was registered for this car. */
  vehicleTokenSha256?: ((vehicle: string) => Buffer | undefined) | undefined;
  /** In front of the registry, and the header in which they name the car whose certificate they have checked. */
  proxies?: { addresses: readonly string[]; vehicleHeader: string } | undefined;
}

/** Says who makes a request: by client certificate, by what a trusted proxy says of one, or by bearer token. */
export class Identity {
  private readonly options: IdentityOptions;
  private readonly ownerSha256: Buffer | undefined;
  private readonly proxies = new BlockList();

  constructor(options: IdentityOptions) {
    this.options = options;
    this.ownerSha256 = options.ownerToken ? sha256(options.ownerToken) : undefined;
    for (const address of options.proxies?.addresses ?? []) addTo(this.proxies, address);
  }

  /** Whether the management has to say who it is. Without, everybody may everything: for one machine only. */
  get required(): boolean {
    const { ownerToken, oidc, tokens } = this.options;
    return Boolean(ownerToken) || oidc !== undefined || tokens.inUse();
  }

  /** Throws UNAUTHORIZED for a proof of identity that is not right. */
  of(request: FastifyRequest): Actor | Promise<Actor> {
    const token = bearerOf(request);
    if (token !== undefined) return this.byToken(request, token);
    const vehicle = this.byCertificate(request);
    if (vehicle !== undefined) return { name: `vehicle:${vehicle}`, roles: new Set(), vehicle };
    return this.required ? NOBODY : ANYBODY;
  }

  private byToken(request: FastifyRequest, token: string): Actor | Promise<Actor> {
    const { oidc, tokens } = this.options;
    // One hash for both: it is a good part of what a poll takes.
    const digest = sha256(token);
    if (this.ownerSha256 !== undefined && timingSafeEqual(digest, this.ownerSha256)) return OWNER;
    const actor = tokens.actorOf(token) ?? this.byRegistration(request, digest);
    if (actor !== undefined) return actor;
    if (oidc !== undefined && Oidc.looksLike(token)) return oidc.actorOf(token);
    if (!this.required) return ANYBODY;
    throw unauthorized('This token is not a right one.');
  }

  /** The token that was registered with the car which the path names. */
  private byRegistration(request: FastifyRequest, digest: Buffer): Actor | undefined {
    const { vehicle } = (request.params ?? {}) as { vehicle?: string };
    if (vehicle === undefined || !isVehicleId(vehicle)) return undefined;
    const registered = this.options.vehicleTokenSha256?.(vehicle);
    if (registered === undefined) return undefined;
    if (!timingSafeEqual(digest, registered)) return undefined;
    return { name: `vehicle:${vehicle}`, roles: NO_ROLES, vehicle };
  }

  private byCertificate({ headers, socket }: FastifyRequest): string | undefined {
    if (socket instanceof TLSSocket && socket.authorized) {
      const vehicle = vehicleIn(socket);
      if (vehicle !== undefined) return vehicle;
    }
    const { proxies } = this.options;
    const said = proxies === undefined ? undefined : headers[proxies.vehicleHeader.toLowerCase()];
    if (typeof said !== 'string' || said === '') return undefined;
    const from = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    // From anybody else this header is what a stranger says of himself.
    if (isIP(from) === 0 || !this.proxies.check(from, isIP(from) === 6 ? 'ipv6' : 'ipv4'))
      throw unauthorized(`The header ${proxies!.vehicleHeader} is believed from the trusted proxies only.`);
    if (!isVehicleId(said)) throw unauthorized('The proxy names no vehicle.');
    return said;
  }
}

/** The car that a certificate names: its DNS name or URI `urn:cardan:vehicle:ID` (SAN), or else its CN. */
function vehicleIn(socket: TLSSocket): string | undefined {
  const { subject, subjectaltname = '' } = socket.getPeerCertificate();
  for (const name of subjectaltname.split(', ')) {
    const id = /^(?:DNS:|URI:urn:cardan:vehicle:)(.+)$/.exec(name)?.[1];
    if (id !== undefined && isVehicleId(id)) return id;
  }
  const name: unknown = subject?.CN;
  return typeof name === 'string' && isVehicleId(name) ? name : undefined;
}

function isVehicleId(text: string): boolean {
  try {
    return checkVehicleId(text) === text;
  } catch {
    return false;
  }
}

/** Throws USAGE. */
function addTo(list: BlockList, text: string): void {
  const [address = '', bits] = text.split('/');
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  const most = family === 'ipv6' ? 128 : 32;
  const prefix = bits === undefined ? most : Number(bits);
  if (isIP(address) === 0 || !Number.isInteger(prefix) || prefix < 0 || prefix > most)
    throw new CardanError(
      'USAGE',
      `A trusted proxy is an address, or a network such as 10.0.0.0/8, not ${text}.`,
    );
  list.addSubnet(address, prefix, family);
}
