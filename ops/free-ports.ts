import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * `count` different ports on 127.0.0.1 where nobody listens. They are below 32768: from there on systems give ports to
 * outgoing connections, and one of those could take the port of a server that is killed and comes back (a client that
 * tries again and again to connect may even meet itself there). Another process may still be faster: who starts a
 * server on such a port tries again with other ports when it is in use.
 */
export async function freePorts(count: number): Promise<number[]> {
  const held = [];
  try {
    for (let tries = 0; held.length < count; tries++) {
      if (tries > 1000) throw new Error('There is no free port between 20000 and 32767 on 127.0.0.1.');
      const server = createServer();
      server.listen(randomInt(20_000, 32_768), '127.0.0.1');
      try {
        await once(server, 'listening');
        held.push(server);
      } catch {
        // In use: the next one.
      }
    }
    return held.map((server) => (server.address() as { port: number }).port);
  } finally {
    await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

/** Whether nobody listens on this port of 127.0.0.1. */
export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  await new Promise((resolve) => server.close(resolve));
  return true;
}
