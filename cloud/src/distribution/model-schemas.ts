import type { FastifySchema } from 'fastify';
import { listOf, modelRef, pageQuery, params, problem, signalSet } from './schemas.ts';

/** What the routes of models take and give. */

const management = { tags: ['management'] };
const guarded = { ...management, security: [{ token: [] }] };
const label = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' };
const text = { type: 'string', maxLength: 256 };
const aliases = { type: 'object', description: 'Alias → version', additionalProperties: label };
const tags = { type: 'object', additionalProperties: text };

const summary = {
  type: 'object',
  properties: {
    version: label,
    createdAt: { type: 'string' },
    publishedAt: { type: 'string' },
    signalSet,
    manifestSha256: { type: 'string', pattern: '^[0-9a-f]{64}$' },
    rows: { type: 'integer', description: 'That it was trained on' },
    threshold: { type: 'number' },
    aliases: { type: 'array', items: label },
    tags,
  },
  required: [
    'version',
    'createdAt',
    'publishedAt',
    'signalSet',
    'manifestSha256',
    'rows',
    'threshold',
    'aliases',
    'tags',
  ],
};

const model = {
  type: 'object',
  properties: {
    name: label,
    aliases,
    versions: { type: 'array', description: 'The newest 100, oldest first', items: summary },
  },
  required: ['name', 'aliases', 'versions'],
};

export const listModels: FastifySchema = {
  ...management,
  summary: 'All models with their newest versions, and the newest decision per signal set',
  querystring: pageQuery,
  response: listOf('models', model, {
    decisions: {
      type: 'array',
      items: {
        type: 'object',
        properties: { generation: { type: 'integer' }, signalSet, active: modelRef },
        required: ['generation', 'signalSet', 'active'],
      },
    },
  }),
};

export const getModel: FastifySchema = {
  ...management,
  summary: 'A model with its newest versions and what names them',
  params: params({ name: label }),
  response: {
    200: {
      ...model,
      properties: {
        ...model.properties,
        model_version_status: {
          type: 'array',
          description: 'The same versions for clients of TensorFlow Serving',
          items: {
            type: 'object',
            properties: {
              version: label,
              state: { const: 'AVAILABLE' },
              status: {
                type: 'object',
                properties: { error_code: { type: 'string' }, error_message: { type: 'string' } },
                required: ['error_code', 'error_message'],
              },
            },
            required: ['version', 'state', 'status'],
          },
        },
      },
      required: [...model.required, 'model_version_status'],
    },
    '4xx': problem,
  },
};

export const listVersions: FastifySchema = {
  ...management,
  summary: 'All versions of a model, oldest first',
  params: params({ name: label }),
  querystring: pageQuery,
  response: listOf('versions', summary),
};

export const getVersion: FastifySchema = {
  ...management,
  summary: 'The manifest.json of a version, of an alias, or of the newest one ("latest")',
  params: params({ name: label, version: label }),
  response: {
    200: {
      description: 'The file',
      content: { 'application/json': { schema: { contentMediaType: 'application/json' } } },
    },
    '4xx': problem,
  },
};

export const getCard: FastifySchema = {
  ...management,
  summary: 'The model card of a version, of an alias, or of the newest one ("latest")',
  params: params({ name: label, version: label }),
  response: {
    200: { description: 'MODEL.md', content: { 'text/markdown': { schema: { type: 'string' } } } },
    '4xx': problem,
  },
};

export const putAlias: FastifySchema = {
  ...guarded,
  summary:
    'Has an alias name a version. "champion" is what all vehicles of the signal set run: they change to this version at once, ' +
    'which takes the role approver',
  params: params({ name: label, alias: label }),
  body: {
    type: 'object',
    properties: { version: label },
    required: ['version'],
    additionalProperties: false,
  },
  response: { 204: { type: 'null' }, '4xx': problem },
};

export const deleteAlias: FastifySchema = {
  ...guarded,
  summary: 'Has an alias name no version any more',
  params: params({ name: label, alias: label }),
  response: { 204: { type: 'null' }, '4xx': problem },
};

export const getTags: FastifySchema = {
  ...management,
  summary: 'The tags of a version, and the aliases that name it',
  params: params({ name: label, version: label }),
  response: {
    200: {
      type: 'object',
      properties: { version: label, aliases: { type: 'array', items: label }, tags },
      required: ['version', 'aliases', 'tags'],
    },
    '4xx': problem,
  },
};

export const putTags: FastifySchema = {
  ...guarded,
  summary: 'Sets tags of a version; null takes one away, others stay',
  params: params({ name: label, version: label }),
  body: {
    type: 'object',
    minProperties: 1,
    maxProperties: 64,
    propertyNames: { pattern: label.pattern },
    additionalProperties: { anyOf: [text, { type: 'null' }] },
  },
  response: { 204: { type: 'null' }, '4xx': problem },
};
