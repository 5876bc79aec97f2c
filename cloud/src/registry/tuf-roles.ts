import type { Key } from '@tufjs/models';

/** Roles that root.json names, and those that targets.json delegates to. */
export const TOP_LEVEL_ROLES = ['root', 'targets', 'snapshot', 'timestamp'] as const;
export const DELEGATED_ROLES = ['models', 'campaigns'] as const;
export const TUF_ROLES = [...TOP_LEVEL_ROLES, ...DELEGATED_ROLES] as const;
export type TufRole = (typeof TUF_ROLES)[number];
export type DelegatedRole = (typeof DELEGATED_ROLES)[number];

/** Signed by the service alone, over and over: their keys must be where it runs. All others can be kept elsewhere. */
export const ONLINE_ROLES = ['snapshot', 'timestamp'] as const;

/** The paths that a delegated role may sign; a `*` is one part between slashes (TUF 4.5). */
export const DELEGATED_PATHS: Record<DelegatedRole, string> = {
  models: 'models/*/*/*',
  campaigns: 'campaigns/*/*',
};

/** How many keys a role begins with, and how many of them must sign. */
export const KEYS_OF_ROLE: Record<TufRole, { keys: number; threshold: number }> = {
  // One of the three can be lost, and one can be stolen.
  root: { keys: 3, threshold: 2 },
  targets: { keys: 1, threshold: 1 },
  snapshot: { keys: 1, threshold: 1 },
  timestamp: { keys: 1, threshold: 1 },
  // Two people: nobody alone gets anything into a car.
  models: { keys: 2, threshold: 2 },
  campaigns: { keys: 2, threshold: 2 },
};

const DAY_MS = 86_400_000;
/** How long a signature is good for, milliseconds. To be signed anew when half of it has passed. */
export const LIFETIME_MS: Record<TufRole, number> = {
  root: 365 * DAY_MS,
  targets: 365 * DAY_MS,
  models: 90 * DAY_MS,
  campaigns: 90 * DAY_MS,
  snapshot: 7 * DAY_MS,
  timestamp: DAY_MS,
};

export const SPEC_VERSION = '1.0.31';

export function isDelegated(role: TufRole): role is DelegatedRole {
  return role === 'models' || role === 'campaigns';
}

export function isOnline(role: TufRole): boolean {
  return role === 'snapshot' || role === 'timestamp';
}

/** The name of a role's n-th key, from 1 on: `root`, `root-2`, `root-3`. */
export function keyName(role: TufRole, n: number): string {
  return n === 1 ? role : `${role}-${n}`;
}

/** The role that a key of this name is for. */
export function roleOfKey(name: string): TufRole | undefined {
  const [, role, n] = /^([a-z]+)(?:-([1-9][0-9]*))?$/.exec(name) ?? [];
  return TUF_ROLES.find((known) => known === role && n !== '1');
}

/** Public keys per role. */
export type RoleKeys = Record<TufRole, Key[]>;
