import type { FastifyInstance, FastifySchema } from 'fastify';
import type { Fleet } from '../fleet/fleet.ts';
import type { ScoreTrends } from '../rul/score-trends.ts';
import { params, problem } from './schemas.ts';

const maybeTime = { type: ['string', 'null'] };

const getTrend: FastifySchema = {
  tags: ['prediction'],
  summary: 'Where the score of a vehicle is going, and when it crosses the threshold if it goes on so',
  description:
    'A robust line through means of the scores over slots of time, drawn on; no model of wear stands behind it. Scores ' +
    'are counted in thresholds of their model, so the limit is 1.',
  params: params({ vehicle: { type: 'string', pattern: '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$' } }),
  response: {
    200: {
      type: 'object',
      properties: {
        vehicle: { type: 'string' },
        of: { const: 'score' },
        state: {
          enum: ['short', 'none', 'away', 'towards', 'crossed'],
          description:
            'short: too little history. none: the interval of the slope has 0 in it. away, towards: from or to the limit. ' +
            'crossed: it is beyond it.',
        },
        limit: { type: 'number' },
        points: { type: 'integer', description: 'Slots of time with scores.' },
        level: { type: ['number', 'null'], description: 'Where the line is at the last point.' },
        shape: { enum: ['linear', 'exponential', null] },
        slope: {
          anyOf: [
            {
              type: 'object',
              properties: { perHour: { type: 'number' }, low: { type: 'number' }, high: { type: 'number' } },
              required: ['perHour', 'low', 'high'],
            },
            { type: 'null' },
          ],
        },
        crosses: {
          description: 'null unless it moves towards the limit. Within, null: too far ahead to say.',
          anyOf: [
            {
              type: 'object',
              properties: { at: maybeTime, low: maybeTime, high: maybeTime },
              required: ['at', 'low', 'high'],
            },
            { type: 'null' },
          ],
        },
        confidence: { type: 'number', description: 'Of the intervals.' },
      },
      required: [
        'vehicle',
        'of',
        'state',
        'limit',
        'points',
        'level',
        'shape',
        'slope',
        'crosses',
        'confidence',
      ],
    },
    '4xx': problem,
  },
};

/** The remaining useful life of a vehicle, as far as its scores tell it. */
export function trendRoutes(
  server: FastifyInstance,
  { fleet, trends }: { fleet: Fleet; trends: ScoreTrends },
): void {
  server.get<{ Params: { vehicle: string } }>(
    '/v1/vehicles/:vehicle/trend',
    { schema: getTrend, config: { role: 'viewer' } },
    async (request) => {
      const { vehicle } = request.params;
      const trend = await trends.of(vehicle);
      // Throws VEHICLE_UNKNOWN.
      if (trend.points === 0) fleet.vehicle(vehicle);
      const { crosses } = trend;
      const text = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());
      return {
        vehicle,
        of: 'score',
        ...trend,
        crosses: crosses && { at: text(crosses.at), low: text(crosses.low), high: text(crosses.high) },
      };
    },
  );
}
