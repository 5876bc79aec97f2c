import { readFileSync } from 'node:fs';

/**
 * Names this start of the computer (Linux: a random UUID, new at each boot). So an agent can tell whether it died alone
 * or the whole computer went down. Empty where the system has none: then each end counts as the agent's alone.
 */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}
