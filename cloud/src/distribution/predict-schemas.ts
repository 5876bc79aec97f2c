import type { FastifySchema } from 'fastify';
import { LINES_TYPE } from './json-lines.ts';
import { modelRef, params, problem } from './schemas.ts';

/** Windows of one request: a bound on the work of one answer, beside that on their rows. */
export const INSTANCES_MAX = 1_000;

const label = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' };

const instances = {
  type: 'array',
  minItems: 1,
  maxItems: INSTANCES_MAX,
  description:
    'Windows of consecutive rows of one vehicle, each written in one of three ways: a list of rows in the order of the ' +
    'signal set; {"t": times, "rows": rows}; {"t": times, "SIGNAL": values, …}. Times are milliseconds since 1970 or ' +
    'RFC 3339, without them rows are one second apart. null: not seen.',
};

const body = {
  content: {
    'application/json': {
      schema: {
        type: 'object',
        properties: {
          signature_name: {
            type: 'string',
            maxLength: 256,
            description: 'For clients of TensorFlow Serving; there is one signature only.',
          },
          instances,
          inputs: {
            description:
              'The columnar form in place of `instances`: a list of windows, or each field of the windows as a list with ' +
              'one entry per window.',
            anyOf: [{ type: 'array', minItems: 1, maxItems: INSTANCES_MAX }, { type: 'object' }],
          },
        },
        additionalProperties: false,
        anyOf: [{ required: ['instances'] }, { required: ['inputs'] }],
        examples: [
          {
            instances: [
              [
                [48.2, 1890, 88],
                [48.9, 1904, 88],
              ],
            ],
          },
          { instances: [{ t: [1767225600000, 1767225601000], 'Vehicle.Speed': [48.2, null] }] },
          { inputs: { rows: [[[48.2, 1890, 88]], [[12.5, 950, 71]]] } },
        ],
      },
    },
    [LINES_TYPE]: { schema: {} },
  },
};

const scores = {
  type: 'array',
  items: { type: ['number', 'null'] },
  description:
    'One per row; null until the windows of the model are full, and where its score is not finite.',
};
const anomaly = {
  type: 'array',
  items: { type: 'boolean' },
  description: 'Whether it is over the threshold.',
};
const contributions = {
  type: 'array',
  description:
    'For rows whose score is at least half the threshold: the signals that add most to it, and their parts.',
  items: {
    type: 'object',
    properties: {
      row: { type: 'integer' },
      signals: {
        type: 'array',
        items: {
          type: 'object',
          properties: { signal: { type: 'string' }, part: { type: 'number' } },
          required: ['signal', 'part'],
        },
      },
    },
    required: ['row', 'signals'],
  },
};
const prediction = {
  type: 'object',
  properties: { scores, threshold: { type: 'number' }, anomaly, contributions },
  required: ['scores', 'threshold', 'anomaly', 'contributions'],
};
const list = (items: unknown) => ({ type: 'array', items });

const answer = {
  200: {
    description:
      'One prediction per instance; or, for lines, a line per line: a prediction, or {"error": {"code", "detail"}, "line"}',
    content: {
      'application/json': {
        schema: {
          type: 'object',
          properties: {
            model: modelRef,
            predictions: list(prediction),
            outputs: {
              type: 'object',
              description: 'In place of `predictions`, where `inputs` were given.',
              properties: {
                scores: list(scores),
                threshold: list({ type: 'number' }),
                anomaly: list(anomaly),
                contributions: list(contributions),
              },
              required: ['scores', 'threshold', 'anomaly', 'contributions'],
            },
          },
          required: ['model'],
        },
      },
      [LINES_TYPE]: { schema: { type: 'string' } },
    },
  },
  '4xx': problem,
};

const text =
  'The scores are those that a car gives to these rows, from empty windows on, to the bit. The forms of TensorFlow ' +
  'Serving are there, too: POST /v1/models/{name}:predict, /v1/models/{name}/versions/{version}:predict and ' +
  '/v1/models/{name}/labels/{label}:predict. Lines (application/x-ndjson) are one instance each, answered as they come.';

export const postPredict: FastifySchema = {
  tags: ['prediction'],
  summary: 'Scores windows of rows with the champion, or with the newest version where there is none',
  description: text,
  params: params({ name: label }),
  body,
  response: answer,
};

export const postVersionPredict: FastifySchema = {
  tags: ['prediction'],
  summary: 'Scores windows of rows with a version, with that of an alias, or with the newest one ("latest")',
  description: text,
  params: params({ name: label, version: label }),
  body,
  response: answer,
};
