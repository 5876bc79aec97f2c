import type { FastifyInstance } from 'fastify';
import type { CampaignRef } from '@cardan/shared';
import type { Registry } from '../registry/registry.ts';
import { sendDocument } from './file-routes.ts';
import { sendList, sorted } from './page.ts';
import * as schema from './schemas.ts';

/** What the cars of the fleet collect. */
export function campaignRoutes(server: FastifyInstance, { registry }: { registry: Registry }): void {
  server.get(
    '/v1/campaigns',
    { schema: schema.listCampaigns, config: { role: 'viewer' } },
    (request, reply) => {
      const all = registry.campaigns.all();
      return sendList<(typeof all)[number]>(
        request,
        reply,
        {
          after: sorted(all, ({ id }) => id),
          keyOf: ({ id }) => id,
          show: ({ id, live, versions }) => ({
            id,
            live: live ?? null,
            versions: versions.map(({ campaign, sha256, publishedAt }) => ({
              version: campaign.version,
              name: campaign.name,
              publishedAt,
              sha256,
            })),
          }),
        },
        'campaigns',
      );
    },
  );

  server.get<{ Params: CampaignRef }>(
    '/v1/campaigns/:id/:version',
    { schema: schema.getCampaign, config: { role: 'viewer' } },
    (request, reply) => sendDocument(reply, registry.campaigns.version(request.params), 'no-cache'),
  );

  server.post<{ Body: unknown }>(
    '/v1/campaigns',
    { schema: schema.postCampaign, config: { role: 'operator' } },
    async (request, reply) => {
      const { campaign, created } = await registry.campaigns.publish(request.body, request.actor.name);
      reply.header('location', `/v1/campaigns/${campaign.id}/${campaign.version}`);
      return reply.code(created ? 201 : 200).send({ ...campaign, created });
    },
  );

  server.delete<{ Params: { id: string } }>(
    '/v1/campaigns/:id',
    { schema: schema.deleteCampaign, config: { role: 'operator' } },
    async (request, reply) => {
      await registry.campaigns.withdraw(request.params.id, request.actor.name);
      return reply.code(204).send();
    },
  );
}
