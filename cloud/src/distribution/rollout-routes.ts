import type { FastifyInstance } from 'fastify';
import type { RolloutRequest } from '../rollout/plan.ts';
import type { PersonsCommand, RolloutService } from '../rollout/rollout-service.ts';
import { checkOther } from './access.ts';
import { sendList, sorted } from './page.ts';
import * as schema from './rollout-schemas.ts';

const OPERATORS_COMMANDS = [
  'pause',
  'resume',
  'stop',
  'rollback',
  'retry',
] as const satisfies PersonsCommand[];

/** How models and campaigns reach the fleet. */
export function rolloutRoutes(server: FastifyInstance, { rollouts }: { rollouts: RolloutService }): void {
  server.get(
    '/v1/rollouts',
    { schema: schema.listRollouts, config: { role: 'viewer' } },
    (request, reply) => {
      const keyOf = ({ rollout }: { rollout: string }) => rollout;
      return sendList(
        request,
        reply,
        { after: sorted(rollouts.list(), keyOf), keyOf, show: (rollout) => rollout },
        'rollouts',
      );
    },
  );

  server.get<{ Params: { id: string } }>(
    '/v1/rollouts/:id',
    { schema: schema.getRollout, config: { role: 'viewer' } },
    (request) => rollouts.get(request.params.id),
  );

  server.get<{ Params: { id: string } }>(
    '/v1/rollouts/:id/events',
    { schema: schema.rolloutEvents, config: { role: 'viewer' } },
    async (request) => ({
      events: (await rollouts.history(request.params.id)).map(({ type, time, data }) => ({
        type,
        time: new Date(time).toISOString(),
        data,
      })),
    }),
  );

  server.post<{ Body: RolloutRequest }>(
    '/v1/rollouts',
    { schema: schema.postRollout, config: { role: 'operator' } },
    async (request, reply) => {
      const { rollout, created } = await rollouts.create(request.body, request.actor.name);
      reply.header('location', `/v1/rollouts/${rollout.rollout}`);
      return reply.code(created ? 201 : 200).send(rollout);
    },
  );

  const body = { schema: schema.commandRollout };
  server.post<{ Params: { id: string }; Body: { reason?: string } | null }>(
    '/v1/rollouts/:id/approve',
    { ...body, config: { role: 'approver' } },
    (request) => {
      checkOther(request.actor, rollouts.get(request.params.id).by);
      return rollouts.command(request.params.id, 'approve', request.actor.name, request.body?.reason);
    },
  );
  for (const command of OPERATORS_COMMANDS)
    server.post<{ Params: { id: string }; Body: { reason?: string } | null }>(
      `/v1/rollouts/:id/${command}`,
      { ...body, config: { role: 'operator' } },
      (request) => rollouts.command(request.params.id, command, request.actor.name, request.body?.reason),
    );
}
