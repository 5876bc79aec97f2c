import type { FastifySchema } from 'fastify';
import { FILTER_LENGTH_MAX } from '../rollout/filter.ts';
import { campaignRef, modelRef, params, problem, signalSet } from './schemas.ts';

/** What the routes of vehicles take and give. */

const vehicleTag = { tags: ['vehicle'] };
const management = { tags: ['management'] };
const guarded = { ...management, security: [{ token: [] }] };

const id = { type: 'string', pattern: '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$' };
const ofVehicle = params({ vehicle: id });
const maybeRef = { anyOf: [modelRef, { type: 'null' }] };
const maybeText = { type: ['string', 'null'] };
const failure = {
  anyOf: [
    {
      type: 'object',
      properties: { code: { type: 'string' }, message: { type: 'string' } },
      required: ['code', 'message'],
    },
    { type: 'null' },
  ],
};
const attributes = { type: 'object', additionalProperties: { type: 'string' } };

const vehicle = {
  type: 'object',
  properties: {
    id,
    signalSet: { ...maybeText, description: 'What it sends; null: nobody has said.' },
    attributes,
    registeredAt: { ...maybeText, description: 'null: it is known by what it sends only.' },
    lastSeen: { ...maybeText, description: 'When it asked or said something last; null: never.' },
    online: { type: ['boolean', 'null'], description: 'null: nobody has said.' },
    reported: {
      description: 'What it has said of its models last; null: nothing.',
      anyOf: [
        {
          type: 'object',
          properties: {
            observedGeneration: { type: 'integer' },
            active: maybeRef,
            candidate: maybeRef,
            phase: { type: 'string' },
            error: failure,
            agentVersion: maybeText,
          },
          required: ['observedGeneration', 'active', 'candidate', 'phase', 'error', 'agentVersion'],
        },
        { type: 'null' },
      ],
    },
  },
  required: ['id', 'signalSet', 'attributes', 'registeredAt', 'lastSeen', 'online', 'reported'],
};
const registration = {
  type: 'object',
  description: 'A vehicle with at most 40 attributes',
  properties: {
    id,
    attributes,
    signalSet,
    tokenSha256: {
      type: 'string',
      pattern: '^[0-9a-f]{64}$',
      description: 'Of the token that it shows. The service never needs the token itself.',
    },
  },
  required: ['id'],
  additionalProperties: false,
};

export const desired: FastifySchema = {
  ...vehicleTag,
  summary: 'What the vehicle should run',
  params: ofVehicle,
  querystring: { type: 'object', properties: { signalSet }, additionalProperties: false },
  response: {
    200: {
      type: 'object',
      properties: {
        generation: { type: 'integer', description: 'Grows with every decision; 0 before the first one.' },
        active: maybeRef,
        candidate: {
          ...maybeRef,
          description: 'Scores silently beside the active one; absent or null: none.',
        },
        campaigns: {
          type: 'array',
          description: 'What it should collect; absent where no campaign was ever for it.',
          items: campaignRef,
        },
      },
      required: ['generation', 'active'],
    },
    304: { type: 'null', description: 'Nothing newer than If-None-Match' },
    '4xx': problem,
  },
};

export const feedback: FastifySchema = {
  ...vehicleTag,
  summary: 'What the vehicle says of itself: the same as it would publish over MQTT on `reported`',
  params: ofVehicle,
  body: {
    type: 'object',
    properties: {
      time: { type: 'string', description: 'When it was said (RFC 3339).' },
      observedGeneration: { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
      active: maybeRef,
      candidate: maybeRef,
      phase: { enum: ['idle', 'updating', 'failed'] },
      error: failure,
      signalSet,
      agent: { type: 'object', properties: { version: { type: 'string' } }, required: ['version'] },
    },
    required: ['observedGeneration', 'active', 'phase', 'error', 'signalSet', 'agent'],
  },
  response: { 204: { type: 'null', description: 'It is in the log' }, '4xx': problem },
};

export const listVehicles: FastifySchema = {
  ...management,
  summary:
    'The vehicles, by their ids: a page, or all that fit as one JSON line each (Accept: application/x-ndjson)',
  querystring: {
    type: 'object',
    properties: {
      filter: {
        type: 'string',
        maxLength: FILTER_LENGTH_MAX,
        description: 'RSQL over the attributes, `id`, `signalSet`, `online`, `lastSeen`, `phase`, `active`.',
      },
      limit: { type: 'integer', minimum: 1, maximum: 1000, description: 'Of a page; default 100.' },
      cursor: { type: 'string', maxLength: 256, description: '`next` of the page before.' },
    },
    additionalProperties: false,
  },
  response: {
    200: {
      description: 'Vehicles',
      content: {
        'application/json': {
          schema: {
            type: 'object',
            properties: {
              vehicles: { type: 'array', items: vehicle },
              next: {
                ...maybeText,
                description:
                  'Where the next page begins; null: this is the last one. A page may be shorter than asked for.',
              },
            },
            required: ['vehicles', 'next'],
          },
        },
        'application/x-ndjson': { schema: { type: 'string' } },
      },
    },
    '4xx': problem,
  },
};

export const getVehicle: FastifySchema = {
  ...management,
  summary: 'A vehicle',
  params: ofVehicle,
  response: { 200: vehicle, '4xx': problem },
};

export const postVehicles: FastifySchema = {
  ...guarded,
  summary: 'Registers vehicles: one, a list, or many as one JSON line each (application/x-ndjson)',
  body: {
    content: {
      'application/json': { schema: { anyOf: [registration, { type: 'array', items: registration }] } },
      'application/x-ndjson': { schema: {} },
    },
  },
  response: {
    '2xx': {
      type: 'object',
      properties: {
        created: { type: 'integer' },
        changed: { type: 'integer', description: 'They were registered with something else.' },
        unchanged: { type: 'integer' },
      },
      required: ['created', 'changed', 'unchanged'],
    },
    '4xx': problem,
  },
};

export const patchVehicle: FastifySchema = {
  ...guarded,
  summary: 'Changes what is registered of a vehicle; null takes an attribute away (RFC 7396)',
  params: ofVehicle,
  body: {
    type: 'object',
    properties: {
      attributes: { type: 'object', additionalProperties: maybeText },
      signalSet: { anyOf: [signalSet, { type: 'null' }] },
      tokenSha256: { anyOf: [registration.properties.tokenSha256, { type: 'null' }] },
    },
    additionalProperties: false,
  },
  response: { 200: vehicle, '4xx': problem },
};

export const deleteVehicle: FastifySchema = {
  ...guarded,
  summary: 'Forgets a vehicle; one that says something after that appears again',
  params: ofVehicle,
  response: { 204: { type: 'null', description: 'It is forgotten' }, '4xx': problem },
};
