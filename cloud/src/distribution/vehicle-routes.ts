import type { FastifyInstance } from 'fastify';
import type { Fleet } from '../registry/fleet.ts';
import type { Registry } from '../registry/registry.ts';
import * as schema from './schemas.ts';
import { isFresh } from './send-file.ts';

/** What a car asks for itself. */
export function vehicleRoutes(
  server: FastifyInstance,
  { registry, fleet }: { registry: Registry; fleet: Fleet },
): void {
  server.get<{ Params: { vehicle: string }; Querystring: { signalSet?: string } }>(
    '/v1/vehicles/:vehicle/desired',
    { schema: schema.desired, config: { role: 'vehicle' } },
    async (request, reply) => {
      // A car knows its columns better than the log does, where its boot event may not have arrived.
      const signalSet = request.query.signalSet ?? fleet.vehicles().get(request.params.vehicle) ?? '';
      const desired = registry.desired(signalSet, request.params.vehicle);
      reply.header('cache-control', 'no-cache');
      if (isFresh(reply, String(desired.generation))) return reply.code(304).send();
      return desired;
    },
  );
}
