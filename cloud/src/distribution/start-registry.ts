import { type CardanError, ensureDataDir, type MqttConnection } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { Fleet } from '../fleet/fleet.ts';
import { httpServer, listen } from '../http.ts';
import { DesiredPublisher } from '../registry/desired-publisher.ts';
import { LoopDesk } from '../loop/loop-desk.ts';
import { Registry, type RolloutPolicy } from '../registry/registry.ts';
import { RolloutService } from '../rollout/rollout-service.ts';
import { ScoreTrends } from '../rul/score-trends.ts';
import { distributionApi } from './api.ts';
import { openAccessDatabase } from './access-database.ts';
import { type ApiSettings, REQUESTS_PER_MINUTE } from './api-settings.ts';
import { Identity } from './identity.ts';
import { Limits } from './limits.ts';
import { Oidc } from './oidc.ts';
import { requireIdentityFor } from './token.ts';
import { TokenStore } from './token-store.ts';

export interface RegistryServiceOptions {
  log: EventLog;
  mqttUrl: string;
  /** User, password, certificates of the broker. */
  connection?: MqttConnection;
  /** Keys, metadata and files of models. */
  dir: string;
  /** Of the private keys there; default none. */
  keysPassphrase?: string | undefined;
  host: string;
  /** 0 takes a free one. */
  port: number;
  /** Bearer token of an operator who is an approver, too; beside those that were made, and OIDC. */
  token?: string | undefined;
  api?: ApiSettings | undefined;
  /** How a new version gets to its vehicles; default `immediate`. */
  rollouts?: RolloutPolicy | undefined;
  /** How often the gates of rollouts are judged, milliseconds; default 30 s. */
  rolloutPeriodMs?: number | undefined;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  onProblem: (error: CardanError) => void;
}

export interface RegistryService {
  url: string;
  /** root.json, version 1: what cars must be given before anything else. */
  rootPath: string;
  /** Roles whose keys could be kept elsewhere, and are on this machine. */
  keysHere: string[];
  close: () => Promise<void>;
}

/**
 * Starts registry, distribution API and desired publisher as one service; it is up when the log has been replayed.
 * Throws TOKEN_REQUIRED, PORT_IN_USE, DATA_DIR_NOT_WRITABLE, TUF_SIGNATURE. The log stays the caller's.
 */
export async function startRegistry(options: RegistryServiceOptions): Promise<RegistryService> {
  const { log, mqttUrl, connection, dir, host, port, token, api = {}, clock = Date.now, onProblem } = options;
  const db = openAccessDatabase(ensureDataDir(dir));
  const closers: (() => Promise<void>)[] = [async () => void db.close()];
  const close = async () => {
    for (const closer of closers.reverse().splice(0)) await closer();
  };
  try {
    const fleet = await Fleet.open({ log, dir, clock, onProblem });
    closers.push(() => fleet.close());
    const identity = new Identity({
      tokens: new TokenStore(db, clock),
      ownerToken: token,
      oidc: api.oidc === undefined ? undefined : new Oidc({ clock, ...api.oidc }),
      vehicleTokenSha256: (vehicle) => fleet.tokenSha256(vehicle),
      proxies: api.proxies,
    });
    requireIdentityFor(host, identity.required);
    const registry = await Registry.open({
      log,
      dir,
      clock,
      rollouts: options.rollouts,
      keysPassphrase: options.keysPassphrase,
      onProblem,
    });
    closers.push(() => registry.close());
    const rollouts = await RolloutService.open({
      log,
      registry,
      fleet,
      clock,
      policy: options.rollouts,
      periodMs: options.rolloutPeriodMs,
      onProblem,
    });
    closers.push(() => rollouts.close());
    const loop = await LoopDesk.open({ log, clock, onProblem });
    closers.push(() => loop.close());
    const trends = new ScoreTrends({ log, clock, onProblem });
    closers.push(() => trends.close());
    const publisher = new DesiredPublisher({ mqttUrl, connection, source: rollouts, fleet, onProblem });
    closers.push(() => publisher.close());
    const server = httpServer({ tls: api.tls, trustedProxies: api.proxies?.addresses ?? [] });
    closers.push(() => server.close());
    const health = () => ({
      status: 'ok',
      mqttConnected: publisher.connected,
      models: registry.names().length,
      campaigns: registry.campaigns.targets().length,
      vehicles: fleet.size,
      malformedRecords: registry.malformed + fleet.malformed + rollouts.malformed,
      missingFiles: registry.missing.length,
    });
    const limits = new Limits(api.requestsPerMinute ?? REQUESTS_PER_MINUTE);
    await distributionApi(server, {
      registry,
      fleet,
      source: rollouts,
      rollouts,
      loop,
      trends,
      db,
      clock,
      access: {
        authenticate: (request) => identity.of(request),
        vehiclesIdentified: api.vehiclesIdentified ?? false,
        limit: (request, reply, as) => limits.take(request, reply, as),
      },
      browser: { corsOrigins: api.corsOrigins ?? [], tls: api.tls !== undefined },
      health,
    });
    const url = await listen(server, host, port);
    return { url, rootPath: registry.tuf.rootPath, keysHere: registry.tuf.keysHere, close };
  } catch (error) {
    await close();
    throw error;
  }
}
