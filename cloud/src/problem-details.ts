import { STATUS_CODES } from 'node:http';
import type { FastifyReply } from 'fastify';
import { CardanError, type ErrorCode, messageOf } from '@cardan/shared';

/** HTTP status of each error that is not simply a 500. */
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
  PROPOSAL_UNKNOWN: 404,
  TUF_TARGET_UNKNOWN: 404,
  SIGNING_UNKNOWN: 404,
  SIGNATURE_REFUSED: 422,
  MODEL_EXISTS: 409,
  CAMPAIGN_EXISTS: 409,
  ROLLOUT_EXISTS: 409,
  ROLLOUT_STATE: 409,
  PROPOSAL_STATE: 409,
  MODEL_INVALID: 422,
  LABEL_INVALID: 422,
  CAMPAIGN_INVALID: 422,
  FILTER_INVALID: 422,
  ROLLOUT_INVALID: 422,
  VEHICLE_INVALID: 422,
  SIGNAL_SET_MISMATCH: 422,
  BLOB_HASH_MISMATCH: 422,
  EVENT_MALFORMED: 422,
  TRAINING_DATA_INSUFFICIENT: 409,
  HTTP_UNREACHABLE: 503,
  LOG_BUSY: 503,
  LOG_CLOSED: 503,
  LOG_FULL: 503,
  LOG_UNREACHABLE: 503,
};

/** Fastify's own errors, and those of its plugins, by their status. */
const CODE: Record<number, ErrorCode> = {
  404: 'ROUTE_UNKNOWN',
  405: 'METHOD_NOT_ALLOWED',
  408: 'REQUEST_TIMEOUT',
  413: 'BODY_TOO_LARGE',
  415: 'MEDIA_TYPE_UNSUPPORTED',
  416: 'RANGE_NOT_SATISFIABLE',
};

/** Problem details (RFC 9457). The `code` is stable; the title is that of the status, as `about:blank` asks for. */
export interface Problem {
  type: 'about:blank';
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
}

export const PROBLEM_TYPE = 'application/problem+json';

export function problemOf(error: unknown): Problem {
  if (error instanceof CardanError) return problem(STATUS[error.code] ?? 500, error.code, error.message);
  const status = statusOf(error);
  if (status >= 400 && status < 500)
    return problem(status, CODE[status] ?? 'REQUEST_INVALID', messageOf(error));
  return problem(500, 'INTERNAL', 'The service failed; its standard error says why.');
}

export function problem(status: number, code: ErrorCode, detail: string): Problem {
  return { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail, code };
}

/** Answers with the error. Nobody may remember it, whatever was said of the answer that it stands for. */
export function sendProblem(reply: FastifyReply, error: unknown): FastifyReply {
  const body = problemOf(error);
  // What has another status says all there is to say.
  if (body.status === 500) console.error(error);
  if (body.status === 401) reply.header('www-authenticate', 'Bearer realm="cardan"');
  for (const name of ['etag', 'last-modified', 'content-disposition', 'content-length'])
    reply.removeHeader(name);
  const range = (error as { headers?: Record<string, string> } | null)?.headers?.['Content-Range'];
  if (body.status === 416 && range !== undefined) reply.header('content-range', range);
  return reply.code(body.status).type(PROBLEM_TYPE).header('cache-control', 'no-store').send(body);
}

function statusOf(error: unknown): number {
  if (typeof error !== 'object' || error === null) return 500;
  const { statusCode, status } = error as { statusCode?: unknown; status?: unknown };
  return Number(statusCode ?? status ?? 500);
}
