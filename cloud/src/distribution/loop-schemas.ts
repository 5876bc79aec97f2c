import type { FastifySchema } from 'fastify';
import { listOf, modelRef, pageQuery, params, problem, signalSet } from './schemas.ts';

/** What the routes of the closed loop take and give. */

const proposalId = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' };
const nullable = (schema: object) => ({ anyOf: [schema, { type: 'null' }] });
const open = { type: 'object', additionalProperties: true };

const proposal = {
  type: 'object',
  additionalProperties: true,
  properties: {
    proposal: proposalId,
    signalSet,
    champion: modelRef,
    trigger: { enum: ['drift', 'rows', 'time'] },
    reason: { type: 'string' },
    status: {
      enum: [
        'waiting',
        'approved',
        'training',
        'trained',
        'judged',
        'rolling out',
        'failed',
        'worse',
        'rejected',
      ],
    },
    why: { type: 'string' },
    approval: { type: 'boolean', description: 'Whether somebody must approve the training and the rollout.' },
    createdAt: { type: 'string' },
    changedAt: { type: 'string' },
    candidate: nullable(modelRef),
    rollout: nullable({ type: 'string' }),
  },
  required: [
    'proposal',
    'signalSet',
    'champion',
    'trigger',
    'reason',
    'status',
    'why',
    'createdAt',
    'changedAt',
  ],
};

const management = { tags: ['management'] };

export const loopStatus: FastifySchema = {
  ...management,
  summary: 'What the closed loop knows: drifts, and the proposal that is under way',
  response: {
    200: {
      type: 'object',
      properties: {
        open: nullable(proposalId),
        proposals: { type: 'integer' },
        trainingsInDay: { type: 'integer', description: 'Asked for by the loop in the last 24 hours.' },
        drifts: { type: 'array', items: open },
      },
      required: ['open', 'proposals', 'trainingsInDay', 'drifts'],
    },
    '4xx': problem,
  },
};

export const listProposals: FastifySchema = {
  ...management,
  summary: 'Retrainings that the loop has proposed',
  querystring: pageQuery,
  response: listOf('proposals', proposal),
};

export const getProposal: FastifySchema = {
  ...management,
  summary: 'A proposal as it stands, with its evidence',
  params: params({ id: proposalId }),
  response: { 200: proposal, '4xx': problem },
};

export const proposalEvents: FastifySchema = {
  ...management,
  summary: 'Everything that happened to a proposal, oldest first, with the evidence',
  params: params({ id: proposalId }),
  response: {
    200: {
      type: 'object',
      properties: { events: { type: 'array', items: open } },
      required: ['events'],
    },
    '4xx': problem,
  },
};

export const commandProposal: FastifySchema = {
  ...management,
  summary:
    'approve: its training, or, when its candidate was judged, its rollout. reject: it goes no further',
  params: params({ id: proposalId }),
  body: {
    type: ['object', 'null'],
    properties: { reason: { type: 'string', maxLength: 200 } },
    additionalProperties: false,
  },
  response: { 200: proposal, '4xx': problem },
};
