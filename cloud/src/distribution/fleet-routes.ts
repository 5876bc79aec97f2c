import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Fleet } from '../fleet/fleet.ts';
import type { Vehicle } from '../fleet/vehicle.ts';
import { parseFilter, type VehicleAttributes, type VehicleFilter } from '../rollout/filter.ts';
import { jsonLines, LINES_TYPE } from './json-lines.ts';
import { cursorOf, keyIn, PAGE_DEFAULT, variesByAccept, wantsLines } from './page.ts';
import * as schema from './vehicle-schemas.ts';

/** A page that finds little ends after so many vehicles: 0.1 s of work. */
const LOOKED_AT_MAX = 20_000;
/** A million vehicles. */
const LINES_BYTES_MAX = 256 * 1024 * 1024;

interface ListQuery {
  filter?: string;
  limit?: number;
  cursor?: string;
}

/** The management's side of vehicles: register, change, look, forget. */
export function fleetRoutes(server: FastifyInstance, { fleet }: { fleet: Fleet }): void {
  server.addContentTypeParser(LINES_TYPE, (_request, body, done) => done(null, body));

  server.get<{ Querystring: ListQuery }>(
    '/v1/vehicles',
    { schema: schema.listVehicles, config: { role: 'viewer' } },
    async (request, reply) => {
      const { filter = '', limit, cursor } = request.query;
      const fits = parseFilter(filter);
      const after = cursor === undefined ? '' : keyIn(cursor);
      variesByAccept(reply);
      if (wantsLines(request)) return sendLines(reply, allThatFit(fleet, fits, after));
      return reply.send(await pageOf(fleet, fits, after, limit ?? PAGE_DEFAULT));
    },
  );

  server.get<{ Params: { vehicle: string } }>(
    '/v1/vehicles/:vehicle',
    { schema: schema.getVehicle, config: { role: 'viewer' } },
    (request) => fleet.vehicle(request.params.vehicle),
  );

  server.post<{ Body: unknown }>(
    '/v1/vehicles',
    { schema: schema.postVehicles, config: { role: 'operator' }, bodyLimit: LINES_BYTES_MAX },
    async (request, reply) => {
      const { body } = request;
      const vehicles = body instanceof Readable ? jsonLines(body) : Array.isArray(body) ? body : [body];
      const registered = await fleet.register(vehicles, request.actor.name);
      return reply.code(registered.created > 0 ? 201 : 200).send(registered);
    },
  );

  server.patch<{ Params: { vehicle: string }; Body: unknown }>(
    '/v1/vehicles/:vehicle',
    { schema: schema.patchVehicle, config: { role: 'operator' } },
    (request) => fleet.change(request.params.vehicle, request.body, request.actor.name),
  );

  server.delete<{ Params: { vehicle: string } }>(
    '/v1/vehicles/:vehicle',
    { schema: schema.deleteVehicle, config: { role: 'operator' } },
    async (request, reply) => {
      await fleet.remove(request.params.vehicle, request.actor.name);
      return reply.code(204).send();
    },
  );
}

/** What filters of vehicles see: the attributes, and what the service knows by itself, which goes before them. */
export function filterable({
  id,
  signalSet,
  attributes,
  online,
  lastSeen,
  reported,
}: Vehicle): VehicleAttributes {
  const known: Record<string, string | boolean> = { ...attributes, id };
  if (signalSet !== null) known.signalSet = signalSet;
  if (online !== null) known.online = online;
  if (lastSeen !== null) known.lastSeen = lastSeen;
  if (reported !== null) {
    known.phase = reported.phase;
    if (reported.active !== null) known.active = `${reported.active.name}/${reported.active.version}`;
  }
  return known;
}

async function pageOf(
  fleet: Fleet,
  fits: VehicleFilter,
  after: string,
  limit: number,
): Promise<{ vehicles: Vehicle[]; next: string | null }> {
  const vehicles: Vehicle[] = [];
  let lookedAt = 0;
  let last = after;
  // One more than the page: whether there is a next one.
  for await (const page of fleet.pages(after, Math.min(limit + 1, 1000)))
    for (const vehicle of page) {
      if (vehicles.length === limit || lookedAt === LOOKED_AT_MAX) return { vehicles, next: cursorOf(last) };
      lookedAt++;
      last = vehicle.id;
      if (fits(filterable(vehicle))) vehicles.push(vehicle);
    }
  return { vehicles, next: null };
}

/** As fast as the caller takes them; nothing is held but a page. */
async function* allThatFit(fleet: Fleet, fits: VehicleFilter, after: string): AsyncGenerator<string> {
  for await (const page of fleet.pages(after)) {
    let lines = '';
    for (const vehicle of page) if (fits(filterable(vehicle))) lines += `${JSON.stringify(vehicle)}\n`;
    if (lines !== '') yield lines;
  }
}

function sendLines(reply: FastifyReply, lines: AsyncGenerator<string>): FastifyReply {
  return reply.type(LINES_TYPE).send(Readable.from(lines));
}
