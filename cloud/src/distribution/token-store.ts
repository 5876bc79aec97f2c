import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import type Database from 'better-sqlite3';
import { CardanError } from '@cardan/shared';
import { type Actor, type Role, ROLES, unauthorized } from './access.ts';

/** A token as it is listed: what it is, never the token itself. */
export interface TokenEntry {
  id: string;
  name: string;
  roles: Role[];
  /** The car whose token it is; null for one of the management. */
  vehicle: string | null;
  /** RFC 3339. */
  createdAt: string;
  expiresAt: string | null;
  revokedAt: string | null;
}

interface Row {
  id: string;
  secret: Buffer;
  name: string;
  roles: string;
  vehicle: string | null;
  createdAt: number;
  expiresAt: number | null;
  revokedAt: number | null;
}

const COLUMNS = `id, secret_sha256 AS secret, name, roles, vehicle, created_at AS createdAt, expires_at AS expiresAt,
  revoked_at AS revokedAt`;
/** The id finds it; the secret, 256 random bits, proves it. The prefix lets scanners find one that was leaked. */
const TOKEN = /^cardan_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/;

/**
 * Bearer tokens, kept as SHA-256 only. That is enough, as their secrets are random and of 256 bits: nothing is to be
 * guessed. What the command line changes holds for a running service at once.
 */
export class TokenStore {
  private readonly db: Database.Database;
  private readonly clock: () => number;

  constructor(db: Database.Database, clock: () => number = Date.now) {
    this.db = db;
    this.clock = clock;
  }

  /** The token is told here, and never again. */
  create(entry: {
    /** Who has it; default the id. */
    name?: string | undefined;
    roles: readonly Role[];
    vehicle?: string | undefined;
    /** Milliseconds since 1970. */
    expiresAt?: number | undefined;
  }): { id: string; token: string } {
    const id = randomBytes(8).toString('hex');
    const secret = randomBytes(32).toString('base64url');
    this.db
      .prepare(
        `INSERT INTO tokens (id, secret_sha256, name, roles, vehicle, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        id,
        sha256(secret),
        entry.name ?? id,
        ROLES.filter((role) => entry.roles.includes(role)).join(' '),
        entry.vehicle ?? null,
        this.clock(),
        entry.expiresAt ?? null,
      );
    return { id, token: `cardan_${id}_${secret}` };
  }

  /** All that were ever made, oldest first. */
  list(): TokenEntry[] {
    const rows = this.db.prepare(`SELECT ${COLUMNS} FROM tokens ORDER BY created_at, id`).all() as Row[];
    const time = (at: number | null) => (at === null ? null : new Date(at).toISOString());
    return rows.map(({ id, name, roles, vehicle, createdAt, expiresAt, revokedAt }) => ({
      id,
      name,
      roles: rolesIn(roles),
      vehicle,
      createdAt: new Date(createdAt).toISOString(),
      expiresAt: time(expiresAt),
      revokedAt: time(revokedAt),
    }));
  }

  /** From now on it is refused. Once more is fine. Throws TOKEN_UNKNOWN. */
  revoke(id: string): void {
    const known = this.db
      .prepare('UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?')
      .run(this.clock(), id);
    if (known.changes === 0)
      throw new CardanError('TOKEN_UNKNOWN', `There is no token ${id}. See: cardan-cloud tokens list`);
  }

  /** Whether there was ever a token of the management: from then on it takes one. */
  inUse(): boolean {
    return this.db.prepare("SELECT 1 FROM tokens WHERE roles <> '' LIMIT 1").get() !== undefined;
  }

  /** Whose token it is; undefined for text that is none of ours. Throws UNAUTHORIZED for one that is not good. */
  actorOf(token: string): Actor | undefined {
    const [, id, secret] = TOKEN.exec(token) ?? [];
    if (id === undefined || secret === undefined) return undefined;
    const row = this.db.prepare(`SELECT ${COLUMNS} FROM tokens WHERE id = ?`).get(id) as Row | undefined;
    // The same answer for an unknown id and a wrong secret; compared in a time that tells nothing.
    if (!timingSafeEqual(sha256(secret), row?.secret ?? NO_SECRET) || row === undefined)
      throw unauthorized('This token is not a right one.');
    if (row.revokedAt !== null) throw unauthorized(`The token ${id} was revoked.`);
    if (row.expiresAt !== null && row.expiresAt <= this.clock())
      throw unauthorized(`The token ${id} has expired.`);
    if (row.vehicle !== null)
      return { name: `vehicle:${row.vehicle}`, roles: new Set(), vehicle: row.vehicle };
    return { name: `token:${row.name}`, roles: new Set(rolesIn(row.roles)) };
  }
}

const NO_SECRET = Buffer.alloc(32);

function rolesIn(text: string): Role[] {
  return ROLES.filter((role) => text.split(' ').includes(role));
}

export function sha256(text: string): Buffer {
  return hash('sha256', text, 'buffer');
}
