import type { FastifyInstance } from 'fastify';
import type { Registry } from '../registry/registry.ts';
import * as schema from './schemas.ts';

/** Asking for trainings; who trains sees them in the log. */
export function trainingRoutes(server: FastifyInstance, { registry }: { registry: Registry }): void {
  server.post<{ Body: { signalSet?: string; reason?: string } | undefined }>(
    '/v1/trainings',
    { schema: schema.postTraining, config: { role: 'operator' } },
    async (request, reply) => {
      const { signalSet = null, reason = 'requested over the API' } = request.body ?? {};
      const actor = request.actor.name;
      return reply.code(202).send({ training: await registry.requestTraining({ signalSet, reason, actor }) });
    },
  );
}
