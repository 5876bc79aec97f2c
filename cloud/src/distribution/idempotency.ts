import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type Database from 'better-sqlite3';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { CardanError } from '@cardan/shared';

/** An answer is kept so long: who has not asked again by then, does not. */
const KEPT_MS = 24 * 3_600_000;
/** Most answers at once, the oldest go first: with the bound of each, at most some hundred megabytes on disk. */
const ANSWERS_MAX = 100_000;
/** A longer answer is not kept; those to a POST are short. */
const BODY_BYTES_MAX = 64 * 1024;
/** Requests with a key that are being answered. */
const RUNNING_MAX = 1000;
/** Visible ASCII, as in draft-ietf-httpapi-idempotency-key-header. */
export const KEY_PATTERN = '^[\\x21-\\x7e]{1,255}$';
const KEY = new RegExp(KEY_PATTERN);
const KEPT_HEADERS = ['content-type', 'location', 'etag'] as const;

interface Kept {
  request: Buffer;
  status: number;
  headers: string;
  body: Buffer;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Of a POST that came with an Idempotency-Key and is being answered. */
    idempotency: { actor: string; key: string; sha256: Buffer } | null;
  }
}

/**
 * A POST that is sent again with the same Idempotency-Key, as after a cut connection, is done once: the first answer is
 * given again. Of another body it is a mistake (422); while the first is being answered, 409. Failures are not kept, as
 * nothing was done. Keys belong to who sends them.
 */
export function idempotentPosts(server: FastifyInstance, db: Database.Database, clock: () => number): void {
  const running = new Set<string>();
  server.decorateRequest('idempotency', null);

  server.addHook('preHandler', async (request, reply) => {
    const key = request.headers['idempotency-key'];
    // A body that streams by is of a request that may be repeated as it is.
    if (request.method !== 'POST' || key === undefined || request.body instanceof Readable) return;
    if (typeof key !== 'string' || !KEY.test(key))
      throw new CardanError('REQUEST_INVALID', 'An Idempotency-Key has 1 to 255 visible ASCII characters.');
    const { name: actor } = request.actor;
    const sha256 = digest(request);
    const kept = find(db, actor, key, clock() - KEPT_MS);
    if (kept !== undefined) return replay(reply, kept, sha256);
    const id = `${actor} ${key}`;
    if (running.has(id) || running.size >= RUNNING_MAX) {
      reply.header('retry-after', '1');
      throw new CardanError(
        'IDEMPOTENCY_IN_PROGRESS',
        'The first request with this key is not answered yet. Ask again soon.',
      );
    }
    running.add(id);
    request.idempotency = { actor, key, sha256 };
  });

  server.addHook('onSend', async (request, reply, payload) => {
    if (request.idempotency === null) return;
    const { actor, key, sha256 } = request.idempotency;
    request.idempotency = null;
    running.delete(`${actor} ${key}`);
    const body = typeof payload === 'string' || Buffer.isBuffer(payload) ? Buffer.from(payload) : undefined;
    if (reply.statusCode >= 300 || body === undefined || body.length > BODY_BYTES_MAX) return;
    const headers: Record<string, string> = {};
    for (const name of KEPT_HEADERS) {
      const value = reply.getHeader(name);
      if (value !== undefined) headers[name] = String(value);
    }
    const at = clock();
    db.prepare('DELETE FROM answers WHERE at < ?').run(at - KEPT_MS);
    db.prepare(
      `DELETE FROM answers WHERE rowid IN
         (SELECT rowid FROM answers ORDER BY at LIMIT max(0, (SELECT count(*) FROM answers) - ?))`,
    ).run(ANSWERS_MAX - 1);
    db.prepare(
      `INSERT OR REPLACE INTO answers (actor, key, request_sha256, status, headers, body, at)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
    ).run(actor, key, sha256, reply.statusCode, JSON.stringify(headers), body, at);
  });
}

function find(db: Database.Database, actor: string, key: string, since: number): Kept | undefined {
  return db
    .prepare(
      'SELECT request_sha256 AS request, status, headers, body FROM answers WHERE actor = ? AND key = ? AND at >= ?',
    )
    .get(actor, key, since) as Kept | undefined;
}

function replay(reply: FastifyReply, { request, status, headers, body }: Kept, sha256: Buffer): FastifyReply {
  if (!request.equals(sha256))
    throw new CardanError(
      'IDEMPOTENCY_KEY_REUSED',
      'This Idempotency-Key came before, with another request. Take a new key for each new request.',
    );
  return reply
    .code(status)
    .headers(JSON.parse(headers) as Record<string, string>)
    .header('idempotency-replayed', 'true')
    .send(body);
}

/** Of what is asked: path and body. */
function digest({ url, body }: FastifyRequest): Buffer {
  const hash = createHash('sha256').update(`${url}\n`);
  return hash.update(Buffer.isBuffer(body) ? body : (JSON.stringify(body) ?? '')).digest();
}
