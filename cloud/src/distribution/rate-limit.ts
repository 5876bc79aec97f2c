/** Callers that are remembered. One that was forgotten begins anew, so too few of them only let more through. */
const CALLERS_MAX = 200_000;

export interface RateLimitOptions {
  /** Requests of one caller; 0: no bound. They may come all at once, too. */
  perMinute: number;
  /** Milliseconds, never back; default the process's own. */
  clock?: () => number;
}

/**
 * So many requests per minute for each caller, by the generic cell rate algorithm: one number per caller, the time at which
 * everything that it has taken so far will be paid for.
 */
export class RateLimit {
  private readonly options: RateLimitOptions;
  private readonly paidAt = new Map<string, number>();

  constructor(options: RateLimitOptions) {
    this.options = options;
  }

  /** Takes one; 0, or the seconds after which there is one again. */
  take(caller: string): number {
    const { perMinute, clock = () => performance.now() } = this.options;
    if (perMinute === 0) return 0;
    const now = clock();
    const cost = 60_000 / perMinute;
    const next = Math.max(now, this.paidAt.get(caller) ?? now) + cost;
    const over = next - now - 60_000;
    // Rounding of many sums must not cost the last one.
    if (over > cost / 1000) return Math.ceil(over / 1000);
    // The newest one stands last.
    this.paidAt.delete(caller);
    this.paidAt.set(caller, next);
    if (this.paidAt.size > CALLERS_MAX) this.paidAt.delete(this.paidAt.keys().next().value!);
    return 0;
  }
}

/** A caller without a name, by its address. One household or host has a whole /64 of IPv6 addresses. */
export function addressKey(address: string): string {
  if (address.startsWith('::ffff:')) return address.slice(7);
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head.split(':').filter((group) => group !== '');
  if (tail !== undefined) {
    const after = tail.split(':').filter((group) => group !== '');
    while (groups.length + after.length < 8) groups.push('0');
    groups.push(...after);
  }
  return `${groups.slice(0, 4).join(':')}::/64`;
}

export function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address);
}
