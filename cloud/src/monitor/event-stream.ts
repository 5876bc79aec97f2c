import type { ServerResponse } from 'node:http';

/** Three times a second: an eye follows no more. */
const PACE: StreamPace = { tickMs: 333, bytesPerSecondMax: 2_000_000 };
/** A comment keeps proxies from closing a quiet stream. */
const HEARTBEAT_MS = 15_000;
/** A page that takes nothing for so long is gone. */
const STALLED_MS = 60_000;
/** Streams at once; a browser opens one per page. */
export const STREAMS_MAX = 100;

export interface StreamSource {
  /** Grows with every change. */
  revision(): number;
  /** The message for a page that has seen `since` (0: nothing), or undefined when there is nothing new. */
  message(since: number): { event: 'snapshot' | 'delta'; data: string } | undefined;
}

export interface StreamPace {
  tickMs: number;
  /** What one page is sent at most; a delta of a huge fleet is followed by a pause that is long enough. */
  bytesPerSecondMax: number;
}

interface Client {
  response: ServerResponse;
  /** What it has been sent. */
  revision: number;
  /** The socket has taken what it was given. */
  writable: boolean;
  /** Clocks (performance.now). */
  writtenAt: number;
  notBefore: number;
}

/**
 * Server-sent events: a snapshot, then deltas. A page that reads slowly is sent nothing while its socket is
 * full, and then one delta with all that has changed: nothing is queued, and nothing is lost. Each event has
 * an id, and a page that comes back (Last-Event-ID) begins with a fresh snapshot.
 */
export class EventStream {
  private readonly source: StreamSource;
  private readonly pace: StreamPace;
  private readonly clients = new Set<Client>();
  private timer: NodeJS.Timeout | undefined;

  constructor(source: StreamSource, pace: StreamPace = PACE) {
    this.source = source;
    this.pace = pace;
  }

  get full(): boolean {
    return this.clients.size >= STREAMS_MAX;
  }

  /** Takes over a response whose head has not been written yet. */
  add(response: ServerResponse, headers: Record<string, string>): void {
    response.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      connection: 'keep-alive',
      // nginx would collect the stream otherwise.
      'x-accel-buffering': 'no',
    });
    const now = performance.now();
    const client: Client = { response, revision: 0, writable: true, writtenAt: now, notBefore: 0 };
    this.clients.add(client);
    response.on('drain', () => {
      client.writable = true;
      client.writtenAt = performance.now();
    });
    response.on('close', () => this.remove(client));
    response.on('error', () => this.remove(client));
    // The page comes back by itself after this long (milliseconds).
    response.write('retry: 1000\n\n');
    this.tell(client, now, new Map());
    this.timer ??= setInterval(() => this.tick(), this.pace.tickMs);
  }

  close(): void {
    clearInterval(this.timer);
    for (const { response } of this.clients) response.end();
    this.clients.clear();
  }

  private remove(client: Client): void {
    this.clients.delete(client);
    if (this.clients.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private tick(): void {
    const now = performance.now();
    // Pages that have seen the same are told the same.
    const messages = new Map<number, string | undefined>();
    for (const client of this.clients) {
      if (client.writable) this.tell(client, now, messages);
      else if (now - client.writtenAt > STALLED_MS) client.response.destroy();
    }
  }

  private tell(client: Client, now: number, messages: Map<number, string | undefined>): void {
    if (now < client.notBefore) return;
    let message = messages.get(client.revision);
    if (message === undefined && !messages.has(client.revision)) {
      const made = this.source.message(client.revision);
      message = made && `event: ${made.event}\nid: ${this.source.revision()}\ndata: ${made.data}\n\n`;
      messages.set(client.revision, message);
    }
    if (message === undefined) {
      if (now - client.writtenAt < HEARTBEAT_MS) return;
      message = ': still here\n\n';
    } else client.revision = this.source.revision();
    client.writable = client.response.write(message);
    client.writtenAt = now;
    client.notBefore = now + (1000 * message.length) / this.pace.bytesPerSecondMax;
  }
}
