import type { FastifyReply, FastifyRequest } from 'fastify';
import { CardanError } from '@cardan/shared';
import { NOBODY, ANYBODY } from './access.ts';
import { addressKey, isLoopback, RateLimit } from './rate-limit.ts';

/** Signed files come from caches, and many cars stand behind one address of a mobile network. */
const READER_FACTOR = 10;

/** How many requests each caller has: a car, a token or a person by name; who has none by his address. */
export class Limits {
  private readonly callers: RateLimit;
  private readonly readers: RateLimit;
  private readonly strangers: RateLimit;

  /** Requests per minute of one caller; 0: no bound. */
  constructor(perMinute: number) {
    this.callers = new RateLimit({ perMinute });
    this.readers = new RateLimit({ perMinute: perMinute * READER_FACTOR });
    this.strangers = new RateLimit({ perMinute });
  }

  /**
   * `caller`: who has said who he is, or need not; `reader`: of what is for anyone; `stranger`: whose token was refused.
   * Throws RATE_LIMITED.
   */
  take(request: FastifyRequest, reply: FastifyReply, as: 'caller' | 'reader' | 'stranger'): void {
    const { actor, ip } = request;
    const isNamed = actor !== NOBODY && actor !== ANYBODY;
    // A machine's own programs that need no name: the demo's whole fleet is at one address.
    if (!isNamed && as !== 'stranger' && isLoopback(ip)) return;
    const limit = as === 'caller' ? this.callers : as === 'reader' ? this.readers : this.strangers;
    const seconds = limit.take(isNamed ? actor.name : addressKey(ip));
    if (seconds === 0) return;
    reply.header('retry-after', String(seconds));
    throw new CardanError('RATE_LIMITED', `Too many requests. Go on in ${seconds} s.`);
  }
}
