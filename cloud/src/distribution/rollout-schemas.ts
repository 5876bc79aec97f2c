import type { FastifySchema } from 'fastify';
import { FILTER_LENGTH_MAX } from '../rollout/filter.ts';
import { STAGES_MAX } from '../rollout/plan.ts';
import { PAGE_MAX } from './page.ts';
import { modelRef, params, problem } from './schemas.ts';

/** What the routes of rollouts take and give, as JSON Schema. */

const name = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' };
const filter = {
  type: 'string',
  maxLength: FILTER_LENGTH_MAX,
  description: 'RSQL over attributes of vehicles',
};
const share = { type: ['number', 'null'], minimum: 0, maximum: 1 };
const bound = { type: ['number', 'null'], minimum: 0 };
const closed = (properties: Record<string, unknown>, required: string[] = []) => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
});

const stage = closed(
  {
    name,
    kind: { enum: ['shadow', 'group'] },
    percent: { type: 'number', exclusiveMinimum: 0, maximum: 100 },
    filter,
    rate: {
      anyOf: [
        closed(
          {
            perMinute: { type: 'number', exclusiveMinimum: 0, maximum: 1e9 },
            doublingMinutes: {
              anyOf: [{ type: 'number', exclusiveMinimum: 0, maximum: 1e6 }, { type: 'null' }],
            },
          },
          ['perMinute'],
        ),
        { type: 'null' },
      ],
    },
    minimum: closed({
      vehicles: { type: 'integer', minimum: 1, maximum: 1e9 },
      vehicleHours: { type: 'number', minimum: 0, maximum: 1e9 },
    }),
    gates: closed({
      alarmIncrease: {
        anyOf: [
          closed({ perHour: { type: 'number', minimum: 0 }, relative: { type: 'number', minimum: 0 } }, [
            'perHour',
            'relative',
          ]),
          { type: 'null' },
        ],
      },
      alarmedShare: share,
      scoreShift: bound,
      latencyP99Us: bound,
      failedShare: share,
      silentShare: share,
      silentMinutes: { type: 'number', minimum: 0, maximum: 1e6 },
    }),
  },
  ['name'],
);

const request = closed({
  id: name,
  model: closed({ name, version: name }, ['name', 'version']),
  campaign: { type: 'object', description: 'The document of a campaign (campaign.schema.json)' },
  filter,
  weight: { type: 'integer', minimum: -1e9, maximum: 1e9 },
  approval: { type: 'boolean' },
  onFail: { enum: ['pause', 'rollback'] },
  schedule: closed({
    notBefore: { type: ['string', 'null'], maxLength: 40 },
    window: {
      anyOf: [
        closed(
          {
            from: { type: 'string', pattern: '^([01]\\d|2[0-3]):[0-5]\\d$' },
            to: { type: 'string', pattern: '^([01]\\d|2[0-3]):[0-5]\\d$' },
            days: {
              type: 'array',
              minItems: 1,
              maxItems: 7,
              items: { type: 'integer', minimum: 0, maximum: 6 },
            },
          },
          ['from', 'to', 'days'],
        ),
        { type: 'null' },
      ],
    },
  }),
  stages: { type: 'array', minItems: 1, maxItems: STAGES_MAX, items: stage },
});

const rollout = {
  type: 'object',
  additionalProperties: true,
  properties: {
    rollout: name,
    status: { enum: ['created', 'approved', 'running', 'paused', 'done', 'stopped', 'rolled-back'] },
    createdAt: { type: 'string' },
    by: { type: 'string' },
    stage: { type: 'integer', description: 'Index in `stages`; -1 before the first.' },
    part: { type: 'number', description: "Part of the stage's vehicles that is reached." },
    champion: { anyOf: [modelRef, { type: 'null' }] },
    reason: { type: 'string' },
  },
  required: ['rollout', 'status', 'createdAt', 'stage', 'part'],
};

const management = { tags: ['management'], security: [{ token: [] }] };

export const listRollouts: FastifySchema = {
  ...management,
  summary: 'All rollouts, in the order of their ids',
  querystring: {
    type: 'object',
    properties: {
      limit: { type: 'integer', minimum: 1, maximum: PAGE_MAX },
      cursor: { type: 'string', maxLength: 400 },
    },
    additionalProperties: false,
  },
  response: {
    200: {
      description: 'One page; with `Accept: application/x-ndjson` one line per rollout',
      content: {
        'application/json': {
          schema: {
            type: 'object',
            properties: {
              rollouts: { type: 'array', items: rollout },
              next: { anyOf: [{ type: 'string' }, { type: 'null' }] },
            },
            required: ['rollouts', 'next'],
          },
        },
        'application/x-ndjson': { schema: {} },
      },
    },
    '4xx': problem,
  },
};

export const getRollout: FastifySchema = {
  ...management,
  summary: 'A rollout as it stands, with the last look at its gates',
  params: params({ id: name }),
  response: { 200: rollout, '4xx': problem },
};

export const rolloutEvents: FastifySchema = {
  ...management,
  summary: 'Everything that happened to a rollout, oldest first, with the evidence',
  params: params({ id: name }),
  response: {
    200: {
      type: 'object',
      properties: {
        events: {
          type: 'array',
          items: {
            type: 'object',
            properties: {
              type: { type: 'string' },
              time: { type: 'string' },
              data: { type: 'object', additionalProperties: true },
            },
            required: ['type', 'time', 'data'],
          },
        },
      },
      required: ['events'],
    },
    '4xx': problem,
  },
};

export const postRollout: FastifySchema = {
  ...management,
  summary: 'Makes a rollout of a model or a campaign; what is left out is as in docs/rollouts.md',
  body: request,
  response: { '2xx': rollout, '4xx': problem },
};

export const commandRollout: FastifySchema = {
  ...management,
  summary: 'Approves, pauses, resumes, stops, rolls back, or has the cars that failed try again',
  params: params({ id: name }),
  body: {
    anyOf: [closed({ reason: { type: 'string', maxLength: 500 } }), { type: 'null' }],
  },
  response: { 200: rollout, '4xx': problem },
};
