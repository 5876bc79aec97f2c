import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { CardanError, systemCode } from '@cardan/shared';
import type { Bridge } from './bridge.ts';

/** Health and metrics of a bridge over HTTP. */
export interface BridgeHttp {
  /** `http://HOST:PORT`, with the real port. */
  url: string;
  close(): Promise<void>;
}

/**
 * Serves `/livez` (200 while the process runs), `/readyz` (200, or 503 with the reasons) and `/metrics` (Prometheus;
 * of the bridge and of the process). Port 0 takes a free one. Throws PORT_IN_USE.
 */
export async function serveBridge(bridge: Bridge, host: string, port: number): Promise<BridgeHttp> {
  const ofProcess = new Registry();
  collectDefaultMetrics({ register: ofProcess });
  const all = Registry.merge([bridge.metrics, ofProcess]);
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      console.error(error);
      response.destroy();
    });
  });

  async function answer({ method, url }: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, type: string, body: string) => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(method === 'HEAD' ? undefined : body);
    };
    const sendJson = (status: number, value: unknown) =>
      send(status, 'application/json', `${JSON.stringify(value)}\n`);
    const path = url?.split('?')[0];
    if (method !== 'GET' && method !== 'HEAD') sendJson(405, { detail: 'Only GET is allowed.' });
    else if (path === '/livez') sendJson(200, { live: true });
    else if (path === '/readyz') {
      const health = bridge.health();
      sendJson(health.ready ? 200 : 503, health);
    } else if (path === '/metrics') send(200, all.contentType, await all.metrics());
    else sendJson(404, { detail: `There are /livez, /readyz and /metrics here.` });
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        systemCode(cause) === 'EADDRINUSE'
          ? new CardanError(
              'PORT_IN_USE',
              `Port ${port} on ${host} is taken. Choose another one (--metrics-port N), or 0 for any free port.`,
              { cause },
            )
          : cause,
      );
    });
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  return {
    url: `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
