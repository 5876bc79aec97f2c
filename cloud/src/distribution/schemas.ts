import type { FastifySchema } from 'fastify';
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';

/** What the routes take and give, as JSON Schema: fastify checks by it, and the OpenAPI document is made of it. */

export const openapi: NonNullable<FastifyDynamicSwaggerOptions['openapi']> = {
  openapi: '3.1.0',
  info: {
    title: 'Cardan registry and distribution',
    description:
      'Publishes models and campaigns to a fleet, and gives cars signed metadata (TUF 1.0) and the files that it names.',
    version: '1.0.0',
  },
  tags: [
    { name: 'vehicle', description: 'What a car reads.' },
    { name: 'management', description: 'What publishers and operators use; needs the token to write.' },
  ],
  components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
};

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
          code: { type: 'string' },
        },
        required: ['type', 'title', 'status', 'detail'],
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

const vehicle = { tags: ['vehicle'] };
const management = { tags: ['management'] };
const guarded = { ...management, security: [{ token: [] }] };

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
  ...guarded,
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

export const listModels: FastifySchema = {
  ...management,
  summary: 'All models with their versions, and the newest decision per signal set',
  response: {
    200: {
      type: 'object',
      properties: {
        models: {
          type: 'array',
          items: {
            type: 'object',
            properties: {
              name: modelName,
              versions: {
                type: 'array',
                items: {
                  type: 'object',
                  properties: {
                    version,
                    createdAt: { type: 'string' },
                    signalSet,
                    manifestSha256: sha256,
                  },
                  required: ['version', 'createdAt', 'signalSet', 'manifestSha256'],
                },
              },
            },
            required: ['name', 'versions'],
          },
        },
        decisions: {
          type: 'array',
          items: {
            type: 'object',
            properties: { generation: { type: 'integer' }, signalSet, active: modelRef },
            required: ['generation', 'signalSet', 'active'],
          },
        },
      },
      required: ['models', 'decisions'],
    },
  },
};

export const getVersion: FastifySchema = {
  ...management,
  summary: 'The manifest.json of a version, or of the newest one ("latest")',
  params: params({ name: modelName, version }),
  response: { 200: file('application/json'), '4xx': problem },
};

export const postVersion: FastifySchema = {
  ...guarded,
  summary:
    'Publishes a version; the body is its manifest.json, kept byte by byte. Its files must be uploaded',
  params: params({ name: modelName }),
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
  response: {
    200: {
      type: 'object',
      properties: {
        campaigns: {
          type: 'array',
          items: {
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
          },
        },
      },
      required: ['campaigns'],
    },
  },
};

export const getCampaign: FastifySchema = {
  ...management,
  summary: 'The document of a version; "latest" is the one that cars should run, or else the newest',
  params: params({ id: campaignId, version }),
  response: { 200: file('application/json'), '4xx': problem },
};

export const postCampaign: FastifySchema = {
  ...guarded,
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
  ...guarded,
  summary: 'Withdraws a campaign: no car should run it any more. Its versions can still be read',
  params: params({ id: campaignId }),
  response: { 204: { type: 'null', description: 'It is withdrawn' }, '4xx': problem },
};

export const postTraining: FastifySchema = {
  ...guarded,
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
