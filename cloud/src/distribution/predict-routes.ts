import { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchema } from 'fastify';
import { CardanError, type Model } from '@cardan/shared';
import { problemOf } from '../problem-details.ts';
import { CHAMPION, type Registry } from '../registry/registry.ts';
import { LINES_TYPE } from './json-lines.ts';
import { predict, type Prediction, readInstance, REQUEST_ROWS_MAX } from './predict-instances.ts';
import * as schema from './predict-schemas.ts';
import { ServingModels } from './serving-models.ts';

/** Twenty thousand rows of fifty numbers. */
const BODY_BYTES_MAX = 8 * 1024 * 1024;
/** A line is one window: five thousand rows of fifty numbers. Somebody who never ends it must not fill the memory. */
const LINE_CHARS_MAX = 4 * 1024 * 1024;
/** Of all lines of a request; they pass through and are not held. */
const LINES_BYTES_MAX = 1024 * 1024 * 1024;

interface PredictBody {
  instances?: unknown[];
  inputs?: unknown[] | Record<string, unknown>;
}
interface Named {
  name: string;
  version?: string;
}

/** Asking a model: the shapes of TensorFlow Serving's REST API, so that its clients work, and lines for many windows. */
export function predictRoutes(server: FastifyInstance, { registry }: { registry: Registry }): void {
  const models = new ServingModels(registry);
  server.addContentTypeParser(LINES_TYPE, (_request, body, done) => done(null, body));

  const answer = async (request: FastifyRequest, reply: FastifyReply) => {
    const { name, version = registry.aliases(name)[CHAMPION] ?? 'latest' } = request.params as Named;
    const ref = registry.resolve(name, version);
    const model = await models.get(ref);
    const { body } = request;
    if (body instanceof Readable)
      return reply.type(LINES_TYPE).send(Readable.from(predictLines(model, body)));
    const { instances, inputs } = (body ?? {}) as PredictBody;
    if ((instances === undefined) === (inputs === undefined))
      throw new CardanError('REQUEST_INVALID', 'The body has either "instances" or "inputs".');
    if (instances !== undefined)
      return reply.send({ model: ref, predictions: predictAll(model, instances, 'instances') });
    return reply.send({ model: ref, outputs: columnsOf(predictAll(model, windowsIn(inputs!), 'inputs')) });
  };
  const route = (url: string, described: FastifySchema) => {
    const options = { schema: described, config: { role: 'viewer' as const } };
    server.post(url, { ...options, bodyLimit: BODY_BYTES_MAX }, answer);
  };

  route('/v1/models/:name/predict', schema.postPredict);
  route('/v1/models/:name/versions/:version/predict', schema.postVersionPredict);
  // As TensorFlow Serving writes them. OpenAPI has no word for a parameter that ends at a colon.
  route('/v1/models/:name([^:]+)::predict', { ...schema.postPredict, hide: true });
  route('/v1/models/:name/versions/:version([^:]+)::predict', { ...schema.postVersionPredict, hide: true });
  route('/v1/models/:name/labels/:version([^:]+)::predict', { ...schema.postVersionPredict, hide: true });
}

function predictAll(model: Model, instances: readonly unknown[], place: string): Prediction[] {
  const windows = instances.map((instance, i) =>
    readInstance(instance, model.manifest.signalSet, `${place}[${i}]`),
  );
  const rows = windows.reduce((sum, { times }) => sum + times.length, 0);
  if (rows > REQUEST_ROWS_MAX)
    throw new CardanError(
      'BODY_TOO_LARGE',
      `These are ${rows} rows; a request has at most ${REQUEST_ROWS_MAX}. Send lines (${LINES_TYPE}) instead.`,
    );
  return windows.map((window) => predict(model, window));
}

/** The windows in the columnar form: a list of them, or each of their fields as a list. */
function windowsIn(inputs: unknown[] | Record<string, unknown>): unknown[] {
  if (Array.isArray(inputs)) return inputs;
  const fields = Object.entries(inputs);
  const count = Array.isArray(fields[0]?.[1]) ? fields[0][1].length : 0;
  if (count === 0 || count > schema.INSTANCES_MAX)
    throw new CardanError('REQUEST_INVALID', `"inputs" has 1 to ${schema.INSTANCES_MAX} windows.`);
  for (const [name, list] of fields)
    if (!Array.isArray(list) || list.length !== count)
      throw new CardanError(
        'REQUEST_INVALID',
        `inputs.${name} is no list with ${count} entries, one per window.`,
      );
  return Array.from({ length: count }, (_, i) =>
    Object.fromEntries(fields.map(([name, list]) => [name, (list as unknown[])[i]])),
  );
}

function columnsOf(predictions: readonly Prediction[]) {
  return {
    scores: predictions.map(({ scores }) => scores),
    threshold: predictions.map(({ threshold }) => threshold),
    anomaly: predictions.map(({ anomaly }) => anomaly),
    contributions: predictions.map(({ contributions }) => contributions),
  };
}

/**
 * One line per line. A line that is wrong is answered with its error, and the next one goes on. Nothing is held but a
 * line: what the caller does not read yet is not read from him either.
 */
async function* predictLines(model: Model, body: Readable): AsyncGenerator<string> {
  let line = 0;
  for await (const text of linesIn(body)) {
    line++;
    if (text instanceof CardanError) {
      yield errorLine(text, line);
      return;
    }
    if (text.trim() === '') continue;
    try {
      yield `${JSON.stringify(predict(model, readInstance(parse(text), model.manifest.signalSet, 'instance')))}\n`;
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      yield errorLine(error, line);
    }
  }
}

/** The lines of a stream; an error in place of one that is too long, or comes after too many bytes, and then nothing. */
async function* linesIn(body: Readable): AsyncGenerator<string | CardanError> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > LINES_BYTES_MAX) {
      yield new CardanError(
        'BODY_TOO_LARGE',
        `All lines have at most ${LINES_BYTES_MAX} bytes. Make another request.`,
      );
      return;
    }
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = lines.pop()!;
    yield* lines;
    if (rest.length > LINE_CHARS_MAX) {
      yield new CardanError('BODY_TOO_LARGE', `A line has at most ${LINE_CHARS_MAX} characters.`);
      return;
    }
  }
  rest += decoder.end();
  if (rest !== '') yield rest;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CardanError('REQUEST_INVALID', 'The line is not JSON.', { cause });
  }
}

function errorLine(error: CardanError, line: number): string {
  const { code, detail } = problemOf(error);
  return `${JSON.stringify({ error: { code, detail }, line })}\n`;
}
