import type { CardanError } from './errors.ts';

/** A problem that lasts is repeated at most this often. */
const REPEAT_MS = 60_000;

/** Prints a problem on standard error when it is new; the same one again only after a minute. */
export function problemPrinter(prefix = ''): (error: CardanError) => void {
  const printed = new Map<string, number>();
  return (error) => {
    const text = `${prefix}${error.code}: ${error.message}`;
    const now = performance.now();
    if (now - (printed.get(text) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return;
    if (printed.size > 100) printed.clear();
    printed.set(text, now);
    process.stderr.write(`${text}\n`);
  };
}
