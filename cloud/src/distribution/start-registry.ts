import type { FastifyRequest } from 'fastify';
import type { CardanError, MqttConnection } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { httpServer, listen } from '../http.ts';
import { DesiredPublisher } from '../registry/desired-publisher.ts';
import { Fleet } from '../registry/fleet.ts';
import { Registry } from '../registry/registry.ts';
import { distributionApi } from './api.ts';
import { ANYBODY, NOBODY } from './access.ts';
import { bearerOf, ownerOf, requireTokenFor } from './token.ts';

export interface RegistryServiceOptions {
  log: EventLog;
  mqttUrl: string;
  /** User, password, certificates of the broker. */
  connection?: MqttConnection;
  /** Keys, metadata and files of models. */
  dir: string;
  host: string;
  /** 0 takes a free one. */
  port: number;
  /** Bearer token of everything that writes; needed on any host but the machine itself. */
  token?: string | undefined;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  onProblem: (error: CardanError) => void;
}

export interface RegistryService {
  url: string;
  /** root.json, version 1: what cars must be given before anything else. */
  rootPath: string;
  close: () => Promise<void>;
}

/**
 * Starts registry, distribution API and desired publisher as one service; it is up when the log has been replayed.
 * Throws TOKEN_REQUIRED, PORT_IN_USE, DATA_DIR_NOT_WRITABLE, TUF_SIGNATURE. The log stays the caller's.
 */
export async function startRegistry(options: RegistryServiceOptions): Promise<RegistryService> {
  const { log, mqttUrl, connection, dir, host, port, token, clock = Date.now, onProblem } = options;
  requireTokenFor(host, token);
  const registry = await Registry.open({ log, dir, clock, onProblem });
  const closers: (() => Promise<void>)[] = [() => registry.close()];
  const close = async () => {
    for (const closer of closers.reverse().splice(0)) await closer();
  };
  try {
    const fleet = await Fleet.open({ log, onProblem });
    closers.push(() => fleet.close());
    const publisher = new DesiredPublisher({ mqttUrl, connection, registry, fleet, onProblem });
    closers.push(() => publisher.close());
    const server = httpServer();
    closers.push(() => server.close());
    const health = () => ({
      status: 'ok',
      mqttConnected: publisher.connected,
      models: registry.names().length,
      campaigns: registry.campaigns.targets().length,
      vehicles: fleet.vehicles().size,
      malformedRecords: registry.malformed + fleet.malformed,
      missingFiles: registry.missing.length,
    });
    const access = {
      authenticate: (request: FastifyRequest) => {
        if (!token) return ANYBODY;
        const given = bearerOf(request);
        return given === undefined ? NOBODY : ownerOf(given, token);
      },
      vehiclesIdentified: () => false,
    };
    await distributionApi(server, { registry, fleet, access, health });
    const url = await listen(server, host, port);
    return { url, rootPath: registry.tuf.rootPath, close };
  } catch (error) {
    await close();
    throw error;
  }
}
