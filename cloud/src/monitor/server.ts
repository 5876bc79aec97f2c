import { randomUUID } from 'node:crypto';
import {
  CardanError,
  cloudEvent,
  ensureLogTopics,
  eventToRecord,
  LOG_TOPICS,
  messageOf,
  type LogTopic,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import type { FastifyInstance } from 'fastify';
import { httpServer, listen } from '../http.ts';
import { EventStream, STREAMS_MAX } from './event-stream.ts';
import { LogMeter } from './log-meter.ts';
import type { LogState, Summary } from './messages.ts';
import { contentSecurityPolicy, readPageFiles } from './page-files.ts';
import { FleetProjection } from './projection.ts';
import { checkLoopbackHost, checkSameOrigin, isLoopback } from './same-origin.ts';
import { TopicReader } from './topic-reader.ts';

export interface MonitorOptions {
  log: EventLog;
  host: string;
  /** 0 takes a free one. */
  port: number;
  /** Milliseconds since 1970. */
  clock?: () => number;
  /** Shown as a link. */
  registryUrl?: string;
  title?: string;
  onProblem?: (problem: CardanError) => void;
}

export interface Monitor {
  url: string;
  close(): Promise<void>;
}

/**
 * How much of each topic's past is read at the start, in records per partition. The page needs the last
 * minutes, not gigabytes: what a car sends in ten minutes is some tens of records. Counts of what is in the
 * log come from the offsets. Models and signal sets are few, and all of them count.
 */
const RECORDS_BACK: Record<LogTopic, number | undefined> = {
  telemetry: 2000,
  predictions: 2000,
  'vehicle-events': 20_000,
  'dead-letters': 20,
  models: undefined,
  // Only their number is shown.
  campaigns: 0,
  rollouts: 0,
  vehicles: 0,
  clusters: undefined,
  'signal-sets': undefined,
};
const LOOK_MS = 1000;

/**
 * Starts the monitor: it follows the log, keeps a picture of the fleet in memory, and serves it as a page, as
 * JSON, and as server-sent events. It writes nothing but requests for trainings. Throws PORT_IN_USE.
 */
export async function startMonitor(options: MonitorOptions): Promise<Monitor> {
  await ensureLogTopics(options.log);
  const service = new MonitorService(options);
  try {
    return { url: await service.start(), close: () => service.close() };
  } catch (error) {
    await service.close();
    throw error;
  }
}

class MonitorService {
  private readonly options: MonitorOptions;
  private readonly clock: () => number;
  private readonly projection = new FleetProjection();
  private readonly meter: LogMeter;
  private readonly stream: EventStream;
  private readonly readers = new Map<LogTopic, TopicReader>();
  private readonly server: FastifyInstance;
  private problem: string | null = null;
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> | undefined;

  constructor(options: MonitorOptions) {
    this.options = options;
    this.clock = options.clock ?? Date.now;
    this.meter = new LogMeter(options.log, () => this.projection.read.liveRows);
    this.stream = new EventStream({
      revision: () => this.projection.revision,
      message: (since) => this.message(since),
    });
    this.server = httpServer({ bodyBytesMax: 4096 });
    this.routes();
  }

  async start(): Promise<string> {
    for (const topic of Object.keys(LOG_TOPICS) as LogTopic[]) {
      const recordsBack = RECORDS_BACK[topic];
      const reader = await TopicReader.start({
        log: this.options.log,
        topic,
        ...(recordsBack === undefined ? {} : { recordsBack }),
        apply: (name, records, live) => this.projection.apply(name, records, this.clock(), live),
        onProblem: (problem) => this.failed(problem),
        onRecovered: () => {
          this.problem = null;
        },
      });
      this.readers.set(topic, reader);
    }
    await this.look();
    this.timer = setInterval(() => {
      // One at a time: a slow log is not asked again before it has answered.
      this.looking ??= this.look().finally(() => {
        this.looking = undefined;
      });
    }, LOOK_MS);
    return listen(this.server, this.options.host, this.options.port);
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    this.stream.close();
    await this.server.close();
    for (const reader of this.readers.values()) await reader.close();
    await this.looking;
  }

  private async look(): Promise<void> {
    try {
      await this.meter.look(this.clock(), () => ++this.projection.revision);
    } catch (error) {
      this.failed(
        error instanceof CardanError
          ? error
          : new CardanError('SERVICE_FAILED', messageOf(error), { cause: error }),
      );
    }
    this.projection.settle(this.clock());
  }

  private failed(problem: CardanError): void {
    this.problem = `${problem.code}: ${problem.message}`;
    this.projection.revision++;
    this.options.onProblem?.(problem);
  }

  private summary(): Summary {
    const { records, rows } = this.projection.read;
    const skipped = this.readers.get('telemetry')?.skipped ?? 0;
    return {
      ...this.projection.summary(this.clock()),
      rowsPerSecond: this.meter.rowsPerSecond,
      rows: skipped === 0 || records === 0 ? rows : Math.round(rows * (1 + skipped / records)),
      rowsExact: skipped === 0,
      catchingUp: [...this.readers.values()].some(({ caughtUp }) => !caughtUp),
      problem: this.problem,
    };
  }

  private logState(): LogState {
    return {
      topics: this.meter.topics,
      groups: this.meter.groups,
      deadLetters: this.projection.listDeadLetters(),
      unreadable: this.projection.unreadable,
      duplicates: this.projection.duplicates,
    };
  }

  private message(since: number): { event: 'snapshot' | 'delta'; data: string } | undefined {
    if (since !== 0 && since === this.projection.revision) return undefined;
    const { json, complete } = this.projection.changes(since, this.clock());
    const samples = this.meter.since(complete ? -1 : since);
    const fields = [`"summary":${JSON.stringify(this.summary())}`];
    if (complete) {
      const { title = 'Fleet', registryUrl = null } = this.options;
      fields.push(JSON.stringify({ title, registryUrl }).slice(1, -1));
    }
    // The log's state is looked at when a sample is taken.
    if (samples.length > 0 || complete)
      fields.push(JSON.stringify({ samples, log: this.logState() }).slice(1, -1));
    if (json !== '') fields.push(json);
    return { event: complete ? 'snapshot' : 'delta', data: `{${fields.join(',')}}` };
  }

  private routes(): void {
    const { server } = this;
    const files = readPageFiles();
    const headers = {
      'content-security-policy': contentSecurityPolicy(files.get('/')?.bytes.toString('utf8') ?? ''),
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
    };
    const loopback = isLoopback(this.options.host);
    server.addHook('onRequest', async (request, reply) => {
      reply.headers({ ...headers, 'cache-control': 'no-store' });
      if (loopback) checkLoopbackHost(request.headers.host);
    });

    for (const [path, { type, bytes, etag }] of files)
      server.get(path, async (request, reply) => {
        reply.headers({ 'cache-control': 'no-cache', etag });
        if (request.headers['if-none-match'] === etag) return reply.code(304).send();
        return reply.type(type).send(bytes);
      });

    server.get('/health', async () => ({
      status: this.problem === null ? 'ok' : 'degraded',
      problem: this.problem,
    }));
    server.get('/api/fleet', async () => ({
      summary: this.summary(),
      vehicles: this.projection.tiles(this.clock()),
    }));
    server.get<{ Params: { id: string }; Querystring: { rows?: number; cloud?: number } }>(
      '/api/vehicles/:id',
      {
        schema: {
          querystring: {
            type: 'object',
            properties: { rows: { type: 'integer', minimum: 0 }, cloud: { type: 'integer', minimum: 0 } },
          },
        },
      },
      async (request, reply) => {
        const { id } = request.params;
        const vehicle = this.projection.vehicle(id, this.clock(), request.query);
        if (vehicle !== undefined) return vehicle;
        return reply
          .code(404)
          .type('application/problem+json')
          .send({
            type: 'about:blank',
            title: 'Not Found',
            status: 404,
            detail: `The monitor has seen nothing of a vehicle "${id}".`,
          });
      },
    );
    server.get('/api/models', async () => this.projection.listModels());
    server.get('/api/log', async () => ({ ...this.logState(), samples: this.meter.since(-1) }));

    server.get('/events', { exposeHeadRoute: false }, async (_request, reply) => {
      if (this.stream.full)
        return reply
          .code(503)
          .type('application/problem+json')
          .send({
            type: 'about:blank',
            title: 'Too many pages',
            status: 503,
            detail: `${STREAMS_MAX} pages are open. Close one.`,
          });
      reply.hijack();
      this.stream.add(reply.raw, headers);
    });

    // Only JSON: a form of another site can send text/plain without asking first (CORS preflight).
    server.removeContentTypeParser('text/plain');
    server.post<{ Body: { signalSet?: string | null; reason?: string } }>(
      '/api/trainings',
      {
        schema: {
          body: {
            type: 'object',
            additionalProperties: false,
            properties: {
              signalSet: { type: ['string', 'null'], minLength: 1, maxLength: 64 },
              reason: { type: 'string', maxLength: 200 },
            },
          },
        },
      },
      async (request, reply) => {
        checkSameOrigin(request.headers);
        const { signalSet = null, reason = 'asked for on the monitor page' } = request.body;
        const training = randomUUID();
        const event = cloudEvent(
          'io.cardan.training.requested',
          { source: '/services/monitor', id: training, time: this.clock() },
          { training, signalSet, reason },
        );
        await this.options.log.append('models', [eventToRecord(training, event)]);
        return reply.code(202).send({ training });
      },
    );
  }
}
