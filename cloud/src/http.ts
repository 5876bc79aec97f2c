import Fastify, { type FastifyInstance } from 'fastify';
import { CardanError, type ErrorCode, messageOf, systemCode } from '@cardan/shared';

/** HTTP status of the errors that a caller can cause; every other one is a 500. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  USAGE: 400,
  REQUEST_INVALID: 400,
  CURSOR_INVALID: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  ROUTE_UNKNOWN: 404,
  METHOD_NOT_ALLOWED: 405,
  REQUEST_TIMEOUT: 408,
  IDEMPOTENCY_IN_PROGRESS: 409,
  BODY_TOO_LARGE: 413,
  MEDIA_TYPE_UNSUPPORTED: 415,
  RANGE_NOT_SATISFIABLE: 416,
  IDEMPOTENCY_KEY_REUSED: 422,
  RATE_LIMITED: 429,
  INTERNAL: 500,
  MODEL_UNKNOWN: 404,
  BLOB_UNKNOWN: 404,
  CAMPAIGN_UNKNOWN: 404,
  VEHICLE_UNKNOWN: 404,
  TOPIC_UNKNOWN: 404,
  ROLLOUT_UNKNOWN: 404,
  TUF_TARGET_UNKNOWN: 404,
  MODEL_EXISTS: 409,
  CAMPAIGN_EXISTS: 409,
  ROLLOUT_EXISTS: 409,
  ROLLOUT_STATE: 409,
  MODEL_INVALID: 422,
  CAMPAIGN_INVALID: 422,
  FILTER_INVALID: 422,
  ROLLOUT_INVALID: 422,
  VEHICLE_INVALID: 422,
  SIGNAL_SET_MISMATCH: 422,
  BLOB_HASH_MISMATCH: 422,
  EVENT_MALFORMED: 422,
  TRAINING_DATA_INSUFFICIENT: 409,
};

/** A fastify server whose errors are RFC 9457 problem details with Cardan's code. */
export function httpServer(options: { bodyBytesMax?: number } = {}): FastifyInstance {
  const server = Fastify({
    bodyLimit: options.bodyBytesMax ?? 1024 * 1024,
    forceCloseConnections: true,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: 'array' } },
  });
  server.setErrorHandler((error, _request, reply) => {
    const problem = problemOf(error);
    return reply.code(problem.status).type('application/problem+json').send(problem);
  });
  server.setNotFoundHandler((request, reply) =>
    reply
      .code(404)
      .type('application/problem+json')
      .send({
        type: 'about:blank',
        title: 'Not Found',
        status: 404,
        detail: `There is no ${request.method} ${request.url}.`,
      }),
  );
  return server;
}

interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code?: string;
}

function problemOf(error: unknown): Problem {
  if (error instanceof CardanError) {
    const status = STATUS[error.code] ?? 500;
    return { type: 'about:blank', title: error.code, status, detail: error.message, code: error.code };
  }
  // fastify's own: validation (400), body too large (413), unsupported media type (415) …
  const status =
    typeof error === 'object' && error !== null && 'statusCode' in error ? Number(error.statusCode) : 500;
  const detail = status < 500 ? messageOf(error) : 'The server failed; its log says why.';
  if (status >= 500) console.error(error);
  return { type: 'about:blank', title: status < 500 ? 'Bad request' : 'Internal error', status, detail };
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
