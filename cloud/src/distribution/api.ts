import fastifyStatic from '@fastify/static';
import swagger from '@fastify/swagger';
import type Database from 'better-sqlite3';
import type { FastifyInstance } from 'fastify';
import type { DesiredSource } from '../fleet/desired-source.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { LoopDesk } from '../loop/loop-desk.ts';
import type { Registry } from '../registry/registry.ts';
import type { RolloutService } from '../rollout/rollout-service.ts';
import type { ScoreTrends } from '../rul/score-trends.ts';
import { type AccessOptions, guardRoutes } from './access.ts';
import { browserHeaders, type BrowserOptions } from './browser-headers.ts';
import { blobRoutes } from './blob-routes.ts';
import { campaignRoutes } from './campaign-routes.ts';
import { fileRoutes } from './file-routes.ts';
import { fleetRoutes } from './fleet-routes.ts';
import { idempotentPosts } from './idempotency.ts';
import { loopRoutes } from './loop-routes.ts';
import { modelRoutes } from './model-routes.ts';
import { documentOptions } from './openapi-document.ts';
import { predictRoutes } from './predict-routes.ts';
import { rolloutRoutes } from './rollout-routes.ts';
import * as schema from './schemas.ts';
import { signingRoutes } from './signing-routes.ts';
import { trainingRoutes } from './training-routes.ts';
import { trendRoutes } from './trend-routes.ts';
import { vehicleRoutes } from './vehicle-routes.ts';

export interface DistributionOptions {
  registry: Registry;
  fleet: Fleet;
  /** What vehicles should have. */
  source: DesiredSource;
  rollouts: RolloutService;
  loop: LoopDesk;
  trends: ScoreTrends;
  access: AccessOptions;
  browser: BrowserOptions;
  /** Keeps answers for their Idempotency-Key. */
  db: Database.Database;
  clock: () => number;
  health: () => Record<string, unknown>;
}

/** Adds the routes of registry and distribution, and `GET /openapi.json` which describes them. */
export async function distributionApi(server: FastifyInstance, options: DistributionOptions): Promise<void> {
  browserHeaders(server, options.browser);
  guardRoutes(server, options.access);
  idempotentPosts(server, options.db, options.clock);
  await server.register(swagger, documentOptions);
  await server.register(fastifyStatic, { serve: false });
  await server.register(async (routes) => vehicleRoutes(routes, options));
  await server.register(async (routes) => fleetRoutes(routes, options));
  await server.register(async (routes) => fileRoutes(routes, options));
  await server.register(async (routes) => blobRoutes(routes, options));
  await server.register(async (routes) => modelRoutes(routes, options));
  await server.register(async (routes) => predictRoutes(routes, options));
  await server.register(async (routes) => trendRoutes(routes, options));
  await server.register(async (routes) => trainingRoutes(routes, options));
  await server.register(async (routes) => signingRoutes(routes, options));
  await server.register(async (routes) => campaignRoutes(routes, options));
  await server.register(async (routes) => rolloutRoutes(routes, options));
  await server.register(async (routes) => loopRoutes(routes, options));
  server.get('/health', { schema: schema.health, config: { role: 'anyone' } }, () => options.health());
  server.get('/openapi.json', { schema: { hide: true }, config: { role: 'anyone' } }, () => server.swagger());
}
