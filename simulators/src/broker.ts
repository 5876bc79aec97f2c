import { createServer, type AddressInfo } from 'node:net';
import { Aedes } from 'aedes';
import { CardanError, systemCode } from '@cardan/shared';

export interface Broker {
  url: string;
  /** MQTT clients that are connected now. */
  readonly clients: number;
  close(): Promise<void>;
}

/**
 * Starts the embedded MQTT 3.1.1 broker, for one machine and without access control: it listens on loopback
 * only. A fleet on the road needs a real one, such as Mosquitto.
 */
export async function startBroker(port: number): Promise<Broker> {
  const aedes = await Aedes.createBroker({
    // A client that stops reading is cut off after a minute instead of holding up the others.
    drainTimeout: 60_000,
  });
  const server = createServer((socket) => {
    aedes.handle(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        systemCode(cause) === 'EADDRINUSE'
          ? new CardanError(
              'PORT_IN_USE',
              `Port ${port} is taken. Choose another one for the MQTT broker, or 0 for any free port.`,
              { cause },
            )
          : cause,
      );
    });
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get clients() {
      return aedes.connectedClients;
    },
    close: () =>
      new Promise((resolve) => {
        aedes.close(() => server.close(() => resolve()));
      }),
  };
}
