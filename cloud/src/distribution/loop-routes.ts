import type { FastifyInstance } from 'fastify';
import type { LoopDesk } from '../loop/loop-desk.ts';
import { sendList, sorted } from './page.ts';
import * as schema from './loop-schemas.ts';

/** What the closed loop proposes, and what persons say to it. */
export function loopRoutes(server: FastifyInstance, { loop }: { loop: LoopDesk }): void {
  server.get('/v1/loop', { schema: schema.loopStatus, config: { role: 'viewer' } }, () => loop.status());

  server.get(
    '/v1/loop/proposals',
    { schema: schema.listProposals, config: { role: 'viewer' } },
    (request, reply) => {
      const keyOf = ({ proposal }: { proposal: string }) => proposal;
      const list = { after: sorted(loop.list(), keyOf), keyOf, show: (proposal: object) => proposal };
      return sendList(request, reply, list, 'proposals');
    },
  );

  server.get<{ Params: { id: string } }>(
    '/v1/loop/proposals/:id',
    { schema: schema.getProposal, config: { role: 'viewer' } },
    (request) => loop.get(request.params.id),
  );

  server.get<{ Params: { id: string } }>(
    '/v1/loop/proposals/:id/events',
    { schema: schema.proposalEvents, config: { role: 'viewer' } },
    async (request) => ({ events: await loop.history(request.params.id) }),
  );

  for (const command of ['approve', 'reject'] as const)
    server.post<{ Params: { id: string }; Body: { reason?: string } | null }>(
      `/v1/loop/proposals/:id/${command}`,
      { schema: schema.commandProposal, config: { role: 'operator' } },
      (request) => loop[command](request.params.id, request.actor.name, request.body?.reason),
    );
}
