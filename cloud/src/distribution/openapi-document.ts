import type { FastifySchema, RouteOptions } from 'fastify';
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import type { RouteRole } from './access.ts';
import { KEY_PATTERN } from './idempotency.ts';
import { problem } from './schemas.ts';

/** Who may call it, in words and as OpenAPI's security. An empty one: nobody is asked. */
const SECURITY: Record<RouteRole, { words: string; security: Record<string, string[]>[] }> = {
  viewer: { words: 'For every role.', security: [{ token: [] }, {}] },
  operator: { words: 'For operators.', security: [{ token: [] }, {}] },
  approver: { words: 'For approvers.', security: [{ token: [] }, {}] },
  vehicle: {
    words:
      'For this vehicle, by its client certificate or its token, where vehicles must prove who they are.',
    security: [{ token: [] }, { certificate: [] }, {}],
  },
  anyone: { words: 'For anyone.', security: [{}] },
};

const IDEMPOTENCY_KEY = {
  type: 'string',
  pattern: KEY_PATTERN,
  description: 'The same request with the same key is done once; the answer is kept for 24 hours.',
};

/** The OpenAPI document is made of the routes' schemas; this adds what holds for every route. */
export const documentOptions: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'Cardan registry and distribution',
      description:
        'Publishes models and campaigns to a fleet, and gives cars signed metadata (TUF 1.0) and the files that it ' +
        'names. Every answer that is not a success is problem details (RFC 9457) with a stable `code`.',
      version: '1.0.0',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    tags: [
      { name: 'vehicle', description: 'What a car reads and reports.' },
      { name: 'management', description: 'What publishers, operators and approvers use.' },
      { name: 'prediction', description: 'What programs ask the models.' },
      { name: 'service', description: 'The service itself.' },
    ],
    components: {
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description: 'A token of `cardan-cloud tokens create`, or a JWT of the OIDC issuer.',
        },
        certificate: {
          // In OpenAPI since 3.1; the types are of 3.0.
          type: 'mutualTLS' as 'http',
          scheme: undefined as unknown as string,
          description: "The vehicle's certificate.",
        },
      },
    },
  },
  transform: ({ schema, url, route }) => ({
    schema: described(schema ?? {}, route),
    // What a wildcard takes has a name in the document; its slashes may be written as %2F.
    url: url.replace(/\*$/, ':path'),
  }),
};

function described(schema: FastifySchema, { method, config, url }: RouteOptions): FastifySchema {
  const { words, security } = SECURITY[config?.role ?? 'anyone'];
  const text = schema.description === undefined ? words : `${schema.description} ${words}`;
  const response = { ...(schema.response as Record<string, unknown>), '4xx': problem, '5xx': problem };
  return {
    ...schema,
    description: text,
    security,
    response,
    ...(url.endsWith('*') ? { params: renamed(schema.params) } : {}),
    ...(method === 'POST'
      ? { headers: { type: 'object', properties: { 'idempotency-key': IDEMPOTENCY_KEY } } }
      : {}),
  };
}

function renamed(params: unknown): unknown {
  const { properties } = params as { properties: Record<string, unknown> };
  return { type: 'object', properties: { path: properties['*'] }, required: ['path'] };
}
