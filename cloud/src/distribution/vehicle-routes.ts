import type { FastifyInstance, FastifyRequest } from 'fastify';
import { reportRecord, type VehicleReported } from '@cardan/shared';
import { type DesiredSource, desiredText } from '../fleet/desired-source.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { PolledVehicle } from '../fleet/vehicle-table.ts';
import { ANYBODY, NOBODY, unauthorized } from './access.ts';
import { isFresh } from './send-file.ts';
import * as schema from './vehicle-schemas.ts';

/** A report has some kilobytes; with as many campaigns as a car reads some ten. */
const REPORT_BYTES_MAX = 64 * 1024;

export interface VehicleRoutesOptions {
  fleet: Fleet;
  source: DesiredSource;
}

/** What a car asks and says for itself. It is the busiest part of the service: a poll takes one look-up. */
export function vehicleRoutes(server: FastifyInstance, { fleet, source }: VehicleRoutesOptions): void {
  server.get<{ Params: { vehicle: string }; Querystring: { signalSet?: string } }>(
    '/v1/vehicles/:vehicle/desired',
    { schema: schema.desired, config: { role: 'vehicle' } },
    (request, reply) => {
      const { vehicle } = request.params;
      const there = fleet.polling(vehicle);
      checkToken(request, there);
      // A person who looks is not the car.
      if (there !== undefined && isTheCar(request)) fleet.polled(there);
      // A car knows its columns better than the log does, where its boot event may not have arrived.
      const signalSet = request.query.signalSet ?? there?.signalSet ?? '';
      const desired = source.desired(signalSet, vehicle);
      reply.header('cache-control', 'no-cache');
      if (isFresh(reply, String(desired.generation))) return reply.code(304).send();
      return reply.type('application/json; charset=utf-8').send(desiredText(desired));
    },
  );

  server.post<{ Params: { vehicle: string }; Body: VehicleReported }>(
    '/v1/vehicles/:vehicle/feedback',
    { schema: schema.feedback, config: { role: 'vehicle' }, bodyLimit: REPORT_BYTES_MAX },
    async (request, reply) => {
      const { vehicle } = request.params;
      checkToken(request, fleet.polling(vehicle));
      // The text that the car has sent, as far as both write JSON without spaces.
      await fleet.reported(reportRecord(vehicle, JSON.stringify(request.body), request.body, fleet.now()));
      return reply.code(204).send();
    },
  );
}

/** A car that was registered with a token must show it, also where nobody else must. Throws UNAUTHORIZED. */
function checkToken({ actor }: FastifyRequest, vehicle: PolledVehicle | undefined): void {
  if (vehicle?.tokenSha256 == null || (actor !== ANYBODY && actor !== NOBODY)) return;
  throw unauthorized('This car was registered with a token. It must show it: "Authorization: Bearer TOKEN".');
}

function isTheCar({ actor }: FastifyRequest): boolean {
  return actor.vehicle !== undefined || actor === ANYBODY || actor === NOBODY;
}
