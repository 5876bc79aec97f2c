import type { FastifySchema } from 'fastify';
import { LINES_TYPE } from './json-lines.ts';
import { PAGE_MAX } from './page.ts';

/** What the routes take and give, as JSON Schema: fastify checks by it, and the OpenAPI document is made of it. */

export const problem = {
  description: 'Problem details (RFC 9457)',
  content: {
    'application/problem+json': {
      schema: {
        type: 'object',
        properties: {
          type: { type: 'string' },
          title: { type: 'string' },
          status: { type: 'integer' },
          detail: { type: 'string' },
          code: { type: 'string', description: 'Stable; docs/errors.md says what each means.' },
        },
        required: ['type', 'title', 'status', 'detail', 'code'],
      },
    },
  },
};
const file = (mediaType: string) => ({
  description: 'The file',
  content: { [mediaType]: { schema: { contentMediaType: mediaType } } },
});

const sha256 = { type: 'string', pattern: '^[0-9a-f]{64}$' };
const modelName = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' };
const version = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' };
const campaignId = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' };
export const signalSet = { type: 'string', pattern: '^[0-9a-f]{16}$' };
export const modelRef = {
  type: 'object',
  properties: { name: { type: 'string' }, version: { type: 'string' } },
  required: ['name', 'version'],
};
export const campaignRef = {
  type: 'object',
  properties: { id: { type: 'string' }, version: { type: 'string' } },
  required: ['id', 'version'],
};
export const params = (properties: Record<string, unknown>) => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
});

/** The query of every list. */
export const page = {
  limit: { type: 'integer', minimum: 1, maximum: PAGE_MAX, description: 'Of a page; default 100.' },
  cursor: { type: 'string', minLength: 1, maxLength: 512, description: '`next` of the page before.' },
};
export const pageQuery = { type: 'object', properties: page, additionalProperties: false };

/** A page, or one JSON line per entry. */
export const listOf = (field: string, items: unknown, others: Record<string, unknown> = {}) => ({
  200: {
    description: 'A page; or all entries, one JSON line each',
    content: {
      'application/json': {
        schema: {
          type: 'object',
          properties: {
            [field]: { type: 'array', items },
            next: {
              type: ['string', 'null'],
              description: 'Cursor of the next page; null: this is the last one.',
            },
            ...others,
          },
          required: [field, 'next', ...Object.keys(others)],
        },
      },
      [LINES_TYPE]: { schema: { type: 'string' } },
    },
  },
  '4xx': problem,
});

const vehicle = { tags: ['vehicle'] };
const management = { tags: ['management'] };

export const tuf: FastifySchema = {
  ...vehicle,
  summary: 'A file of TUF metadata',
  params: params({ file: { type: 'string', maxLength: 64 } }),
  response: { 200: file('application/json'), '4xx': problem },
};

export const target: FastifySchema = {
  ...vehicle,
  summary:
    'A file of a model, models/{name}/{version}/{sha256}.{file}, which takes Range; ' +
    'or a campaign, campaigns/{id}/{sha256}.{version}.json',
  params: params({ '*': { type: 'string', maxLength: 256 } }),
  response: { 200: file('application/octet-stream'), 206: file('application/octet-stream'), '4xx': problem },
};

export const getBlob: FastifySchema = {
  ...management,
  summary: 'The bytes behind a hash; takes Range',
  params: params({ sha256 }),
  response: { 200: file('application/octet-stream'), 206: file('application/octet-stream'), '4xx': problem },
};

export const putBlob: FastifySchema = {
  ...management,
  summary: 'Stores bytes under their SHA-256, at most 64 MiB',
  params: params({ sha256 }),
  body: {
    content: { 'application/octet-stream': { schema: { contentMediaType: 'application/octet-stream' } } },
  },
  response: {
    '2xx': {
      type: 'object',
      properties: { sha256, created: { type: 'boolean' } },
      required: ['sha256', 'created'],
    },
    '4xx': problem,
  },
};

export const postVersion: FastifySchema = {
  ...management,
  summary:
    'Publishes a version; the body is its manifest.json, kept byte by byte. Its files must be uploaded',
  params: params({ name: modelName }),
  querystring: {
    type: 'object',
    properties: {
      trial: {
        type: 'boolean',
        description:
          'It is to be judged first: no alias names it and no vehicle gets it until somebody says so.',
      },
    },
    additionalProperties: false,
  },
  body: { type: 'object', description: 'manifest.json' },
  response: {
    '2xx': {
      type: 'object',
      properties: { name: modelName, version, created: { type: 'boolean' } },
      required: ['name', 'version', 'created'],
    },
    '4xx': problem,
  },
};

export const listCampaigns: FastifySchema = {
  ...management,
  summary: 'All campaigns with their versions, and the one that cars should run',
  querystring: pageQuery,
  response: listOf('campaigns', {
    type: 'object',
    properties: {
      id: campaignId,
      live: { anyOf: [version, { type: 'null' }], description: 'null: withdrawn' },
      versions: {
        type: 'array',
        items: {
          type: 'object',
          properties: {
            version,
            name: { type: 'string' },
            publishedAt: { type: 'string' },
            sha256,
          },
          required: ['version', 'name', 'publishedAt', 'sha256'],
        },
      },
    },
    required: ['id', 'live', 'versions'],
  }),
};

export const getCampaign: FastifySchema = {
  ...management,
  summary: 'The document of a version; "latest" is the one that cars should run, or else the newest',
  params: params({ id: campaignId, version }),
  response: { 200: file('application/json'), '4xx': problem },
};

export const postCampaign: FastifySchema = {
  ...management,
  summary:
    'Publishes a version of a campaign; the cars that it names should run it from now on, and no other of its id',
  body: {
    type: 'object',
    description: 'The campaign, at most 64 KiB as JSON without spaces (campaign.schema.json)',
  },
  response: {
    '2xx': {
      type: 'object',
      properties: { id: campaignId, version, created: { type: 'boolean' } },
      required: ['id', 'version', 'created'],
    },
    '4xx': problem,
  },
};

export const deleteCampaign: FastifySchema = {
  ...management,
  summary: 'Withdraws a campaign: no car should run it any more. Its versions can still be read',
  params: params({ id: campaignId }),
  response: { 204: { type: 'null', description: 'It is withdrawn' }, '4xx': problem },
};

export const postTraining: FastifySchema = {
  ...management,
  summary: 'Asks for a training',
  body: {
    type: 'object',
    properties: { signalSet, reason: { type: 'string', minLength: 1, maxLength: 200 } },
    additionalProperties: false,
  },
  response: {
    202: { type: 'object', properties: { training: { type: 'string' } }, required: ['training'] },
    '4xx': problem,
  },
};

export const health: FastifySchema = {
  tags: ['service'],
  summary: 'Whether the service is up, and what it has met',
  response: {
    200: {
      type: 'object',
      properties: {
        status: { const: 'ok' },
        mqttConnected: { type: 'boolean' },
        models: { type: 'integer' },
        campaigns: { type: 'integer', description: 'Those that cars should run.' },
        vehicles: { type: 'integer' },
        malformedRecords: { type: 'integer' },
        missingFiles: { type: 'integer', description: 'Versions whose files are not in the blob store.' },
      },
      required: [
        'status',
        'mqttConnected',
        'models',
        'campaigns',
        'vehicles',
        'malformedRecords',
        'missingFiles',
      ],
    },
  },
};
