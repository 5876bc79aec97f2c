import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { CardanError } from '@cardan/shared';

/**
 * `viewer` reads; `operator` publishes, creates and stops; `approver` approves what somebody else has created. Operators
 * and approvers read, too. Neither includes the other: one person may have both.
 */
export const ROLES = ['viewer', 'operator', 'approver'] as const;
export type Role = (typeof ROLES)[number];

/**
 * Whom a route is for. `vehicle`: the car that the parameter `:vehicle` names, and nobody else; viewers, to read.
 * `anyone`: it shows nothing that must be kept from anybody (signed files, the service's health).
 */
export type RouteRole = Role | 'vehicle' | 'anyone';

/** Who makes a request. */
export interface Actor {
  /** As it stands in the events: `token:NAME`, `oidc:SUBJECT`, `vehicle:ID`, `anonymous`. */
  name: string;
  roles: ReadonlySet<Role>;
  /** For a car, its id. */
  vehicle?: string;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    role?: RouteRole;
  }
  interface FastifyRequest {
    /** There on every route, from the hook `onRequest` on. */
    actor: Actor;
  }
}

/** Whoever reaches a service that asks nobody who he is. */
export const ANYBODY: Actor = { name: 'anonymous', roles: new Set(ROLES) };
/** Somebody who does not say who he is, where that counts. */
export const NOBODY: Actor = { name: 'anonymous', roles: new Set() };

export interface AccessOptions {
  /** Who makes this request. Throws UNAUTHORIZED for a proof of identity that is not right. */
  authenticate: (request: FastifyRequest) => Actor | Promise<Actor>;
  /** Whether cars must prove who they are. */
  vehiclesIdentified: boolean;
  /** Throws RATE_LIMITED. */
  limit: (request: FastifyRequest, reply: FastifyReply, as: 'caller' | 'reader' | 'stranger') => void;
}

/**
 * Lets a request through to its route, or not, before its body is read: a stranger cannot make the server take in anything.
 * Every route says whom it is for (`config: { role }`); one that does not is a mistake, and the server does not start.
 */
export function guardRoutes(server: FastifyInstance, options: AccessOptions): void {
  server.decorateRequest('actor', null as unknown as Actor);
  server.addHook('onRoute', ({ method, url, config }) => {
    if (config?.role === undefined && method !== 'OPTIONS')
      throw new TypeError(
        `The route ${String(method)} ${url} does not say whom it is for: config: { role }.`,
      );
  });
  server.addHook('onRequest', async (request, reply) => {
    const role = request.routeOptions.config.role ?? 'anyone';
    request.actor = NOBODY;
    if (role === 'anyone') return options.limit(request, reply, 'reader');
    try {
      request.actor = await options.authenticate(request);
    } catch (error) {
      options.limit(request, reply, 'stranger');
      throw error;
    }
    options.limit(request, reply, 'caller');
    if (role === 'vehicle') checkVehicle(request, options.vehiclesIdentified);
    else checkRole(request.actor, role);
  });
}

/** Throws UNAUTHORIZED for somebody who has not said who he is, FORBIDDEN for one who may not. */
export function checkRole(actor: Actor, role: Role): void {
  if (role === 'viewer' ? actor.roles.size > 0 : actor.roles.has(role)) return;
  if (actor === NOBODY) throw unauthorized('This needs the header "Authorization: Bearer TOKEN".');
  throw new CardanError('FORBIDDEN', `This needs the role ${role}, which ${actor.name} does not have.`);
}

/**
 * What one has created, another one approves. Where everybody is anonymous nobody can tell, and it passes.
 * Throws FORBIDDEN.
 */
export function checkOther(actor: Actor, createdBy: string): void {
  if (actor.name !== createdBy || actor === ANYBODY) return;
  throw new CardanError('FORBIDDEN', `${actor.name} has created this; somebody else must approve it.`);
}

export function unauthorized(message: string, cause?: unknown): CardanError {
  return new CardanError('UNAUTHORIZED', message, { cause });
}

function checkVehicle(request: FastifyRequest, identified: boolean): void {
  const { actor } = request;
  const { vehicle } = request.params as { vehicle?: string };
  if (actor.vehicle !== undefined) {
    if (actor.vehicle === vehicle) return;
    throw new CardanError('FORBIDDEN', `${actor.name} may see and report only what is its own.`);
  }
  if (!identified) return;
  const reads = request.method === 'GET' || request.method === 'HEAD';
  if (reads && actor !== ANYBODY && actor.roles.size > 0) return;
  if (actor === NOBODY || actor === ANYBODY)
    throw unauthorized("This needs the car's client certificate, or its token in the header Authorization.");
  throw new CardanError('FORBIDDEN', `This is for the car ${vehicle ?? ''} only.`);
}
