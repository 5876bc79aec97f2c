import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CardanError } from '@cardan/shared';
import { LINES_TYPE } from './json-lines.ts';

/** Entries of a page, unless `limit` says less or more. */
export const PAGE_DEFAULT = 100;
/** With it a page stays some hundred kilobytes. */
export const PAGE_MAX = 1000;

/** As the query of every list. */
export interface PageQuery {
  limit?: number;
  cursor?: string;
}

/** A list in the order of its keys; nothing is held while it is read, and what is added meanwhile may be in it or not. */
export interface List<T> {
  /** Entries whose key is greater; all of them without one. */
  after: (key: string | undefined) => Iterable<T>;
  keyOf: (entry: T) => string;
  /** As it is shown. */
  show: (entry: T) => unknown;
}

/**
 * Answers with one page, `{[field]: […], next}`, where `next` is the cursor of the following one or null; or, by
 * `Accept: application/x-ndjson`, with all entries, one JSON line each, as the caller takes them.
 * Throws CURSOR_INVALID.
 */
export function sendList<T>(
  request: FastifyRequest,
  reply: FastifyReply,
  list: List<T>,
  field: string,
  extra: Record<string, unknown> = {},
): FastifyReply {
  const { limit, cursor } = request.query as PageQuery;
  const entries = list.after(cursor === undefined ? undefined : keyIn(cursor));
  variesByAccept(reply);
  if (wantsLines(request))
    return reply.type(LINES_TYPE).send(Readable.from(lines(entries, list.show, limit ?? Infinity)));
  const size = limit ?? PAGE_DEFAULT;
  const page: unknown[] = [];
  let last: T | undefined;
  let next: string | null = null;
  for (const entry of entries) {
    if (page.length === size) {
      next = cursorOf(list.keyOf(last!));
      break;
    }
    page.push(list.show(entry));
    last = entry;
  }
  return reply.send({ [field]: page, next, ...extra });
}

/** For a list that is in memory. */
export function sorted<T>(entries: Iterable<T>, keyOf: (entry: T) => string): List<T>['after'] {
  return (key) => {
    const after = key === undefined ? [...entries] : [...entries].filter((entry) => keyOf(entry) > key);
    return after.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  };
}

function* lines<T>(entries: Iterable<T>, show: (entry: T) => unknown, limit: number): Generator<string> {
  let left = limit;
  for (const entry of entries) {
    if (left-- <= 0) return;
    yield `${JSON.stringify(show(entry))}\n`;
  }
}

/** What is answered depends on the `Accept` of the request, beside what it may depend on already. */
export function variesByAccept(reply: FastifyReply): void {
  reply.header('vary', [reply.getHeader('vary'), 'Accept'].flat().filter(Boolean).join(', '));
}

/** Whether lines were asked for by name; who takes anything gets a page. */
export function wantsLines(request: FastifyRequest): boolean {
  const accepted = (request.headers.accept ?? '').split(',').map((type) => type.split(';', 1)[0]!.trim());
  return accepted.includes(LINES_TYPE);
}

// Opaque, so that it may come to hold something else.
export function cursorOf(key: string): string {
  return Buffer.from(JSON.stringify([key])).toString('base64url');
}

/** Throws CURSOR_INVALID. */
export function keyIn(cursor: string): string {
  try {
    const [key] = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')) as unknown[];
    if (typeof key === 'string') return key;
  } catch {
    // Not one of ours.
  }
  throw new CardanError('CURSOR_INVALID', 'The cursor is not one of this list. Begin without one.');
}
