import type { Socket } from 'node:net';
import AjvCompiler, { type ValidatorFactory } from '@fastify/ajv-compiler';
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';
import { CardanError, systemCode } from '@cardan/shared';
import { AllowedMethods } from './allowed-methods.ts';
import { problem, PROBLEM_TYPE, sendProblem } from './problem-details.ts';

/** Within this time the head of a request must have come. */
const HEADERS_TIMEOUT_MS = 10_000;
/** And the whole request within this: 64 MiB over 2 Mbit/s. */
const REQUEST_TIMEOUT_MS = 300_000;

/** PEM files of a server that speaks TLS. */
export interface ServerTls {
  cert: Buffer;
  key: Buffer;
  /** Authorities of client certificates; with it, clients are asked for one. */
  clientCa?: Buffer | undefined;
}

export interface HttpServerOptions {
  bodyBytesMax?: number;
  tls?: ServerTls | undefined;
  /** Proxies whose X-Forwarded-For is believed: addresses, or networks such as 10.0.0.0/8. */
  trustedProxies?: readonly string[];
}

/** A fastify server whose errors, all of them, are RFC 9457 problem details with Cardan's code. */
export function httpServer(options: HttpServerOptions = {}): FastifyInstance {
  const { tls, trustedProxies = [] } = options;
  const settings: FastifyServerOptions = {
    bodyLimit: options.bodyBytesMax ?? 1024 * 1024,
    forceCloseConnections: true,
    requestTimeout: REQUEST_TIMEOUT_MS,
    schemaController: { compilersFactory: { buildValidator } },
    // Longer than any id, so that a schema says what is wrong with it.
    routerOptions: { maxParamLength: 1000 },
    // A path that cannot be decoded.
    frameworkErrors: (error, _request, reply) => void sendProblem(reply, error),
    clientErrorHandler,
    ...(trustedProxies.length === 0 ? {} : { trustProxy: [...trustedProxies] }),
    ...(tls === undefined
      ? {}
      : {
          https: {
            cert: tls.cert,
            key: tls.key,
            minVersion: 'TLSv1.2',
            // Operators come without a certificate; who needs one is decided route by route.
            ...(tls.clientCa === undefined
              ? {}
              : { ca: tls.clientCa, requestCert: true, rejectUnauthorized: false }),
          },
        }),
  };
  const server = Fastify(settings);
  server.server.headersTimeout = HEADERS_TIMEOUT_MS;
  const allowed = new AllowedMethods(server);
  server.setErrorHandler((error, _request, reply) => sendProblem(reply, error));
  server.setNotFoundHandler((request, reply) => {
    const methods = allowed.of(request.url);
    // A file that has gone in the meantime comes here, too.
    if (methods.length === 0 || methods.includes(request.method))
      return sendProblem(
        reply,
        new CardanError('ROUTE_UNKNOWN', `There is no ${request.method} ${request.url}.`),
      );
    reply.header('allow', methods.join(', '));
    const detail = `${request.url} takes ${methods.join(', ')}, not ${request.method}.`;
    return sendProblem(reply, new CardanError('METHOD_NOT_ALLOWED', detail));
  });
  return server;
}

/** Path and query are text, in which a number is found; a body says itself what is a number and what is text. */
const buildValidator = ((schemas: Record<string, object>) => {
  const ajv = AjvCompiler();
  const ofText = ajv(schemas, { customOptions: { removeAdditional: false, coerceTypes: 'array' } });
  const ofBody = ajv(schemas, { customOptions: { removeAdditional: false, coerceTypes: false } });
  return (route: { httpPart?: string }) => (route.httpPart === 'body' ? ofBody(route) : ofText(route));
}) as ValidatorFactory;

/** For what is not HTTP at all, or does not come to its end: there is no request yet that could be answered. */
function clientErrorHandler(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const answer =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? problem(408, 'REQUEST_TIMEOUT', 'The request did not come to its end in time.')
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? problem(431, 'REQUEST_INVALID', 'The headers are too large.')
        : problem(400, 'REQUEST_INVALID', 'This is not HTTP.');
  const body = JSON.stringify(answer);
  socket.end(
    `HTTP/1.1 ${answer.status} ${answer.title}\r\nContent-Type: ${PROBLEM_TYPE}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

/**
 * Listens; port 0 takes a free one. Resolves to the URL with the real port.
 * Throws PORT_IN_USE when somebody else has the port.
 */
export async function listen(server: FastifyInstance, host: string, port: number): Promise<string> {
  try {
    const url = await server.listen({ host, port });
    return url.replace('0.0.0.0', '127.0.0.1').replace('[::]', '127.0.0.1');
  } catch (cause) {
    if (systemCode(cause) !== 'EADDRINUSE') throw cause;
    throw new CardanError(
      'PORT_IN_USE',
      `Port ${port} on ${host} is taken. Choose another one (--port N), or 0 for any free port.`,
      { cause },
    );
  }
}
