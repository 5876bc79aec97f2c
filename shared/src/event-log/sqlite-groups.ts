import { randomUUID } from 'node:crypto';
import type Database from 'better-sqlite3';
import { CardanError } from '../errors.ts';
import { transaction, whenFree } from './sqlite-file.ts';

/** What a group needs to know of a topic. */
export interface GroupTopic {
  id: number;
  partitions: number;
  /** Where a group begins that has committed nothing. */
  start: (partition: number) => number;
}

/** A partition that a member has, and where it goes on reading. */
export interface Lease {
  topic: number;
  partition: number;
  epoch: number;
  next: number;
}

interface PartitionRow {
  topic: number;
  partition: number;
  committed: number;
  owner: string | null;
  epoch: number;
}

/**
 * Consumer groups. Members keep their place by heartbeats; whoever is missing for longer than the session
 * timeout is removed by the others. Every member computes the same assignment from the sorted list of
 * members, gives back what is no longer its own once the batch in hand is done, and takes what is free.
 * A commit counts only from the owner of the present epoch: a member that was thought dead cannot commit.
 */
export class Groups {
  readonly db: Database.Database;
  readonly sessionTimeoutMs: number;
  readonly clock: () => number;
  /** Called after the members or owners of a group have changed. */
  readonly changed: () => void;
  readonly #members = new Set<Member>();
  readonly #names: Database.Statement;
  readonly #lag: Database.Statement;

  constructor(
    db: Database.Database,
    options: { sessionTimeoutMs: number; clock: () => number; changed: () => void },
  ) {
    this.db = db;
    this.sessionTimeoutMs = options.sessionTimeoutMs;
    this.clock = options.clock;
    this.changed = options.changed;
    this.#names = db.prepare('SELECT name FROM groups ORDER BY name').pluck();
    this.#lag = db.prepare(
      `SELECT t.name AS topic, partition, committed, next AS latest, next - committed AS lag
       FROM groups g JOIN group_partitions gp ON gp.grp = g.id JOIN topics t ON t.id = gp.topic
       JOIN partitions p USING (topic, partition) WHERE g.name = ? ORDER BY t.name, partition`,
    );
  }

  names(): string[] {
    return this.#names.all() as string[];
  }

  lag(group: string): { topic: string; partition: number; committed: number; latest: number; lag: number }[] {
    return this.#lag.all(group) as ReturnType<Groups['lag']>;
  }

  /** Joins the group as a new member, which has taken its free partitions. It must `leave`. */
  async join(group: string, topics: readonly GroupTopic[]): Promise<Member> {
    const id = await whenFree(() => {
      this.db.prepare('INSERT OR IGNORE INTO groups (name, generation) VALUES (?, 0)').run(group);
      return this.db.prepare('SELECT id FROM groups WHERE name = ?').pluck().get(group) as number;
    });
    const member = new Member(this, id, topics);
    this.#members.add(member);
    try {
      await member.rebalance();
    } catch (error) {
      await this.leave(member);
      throw error;
    }
    return member;
  }

  /** Notes how far a group without members has got. Throws USAGE when it has some. */
  async commit(group: string, topic: number, offsets: Readonly<Record<number, number>>): Promise<void> {
    await whenFree(() =>
      transaction(this.db, () => {
        this.db.prepare('INSERT OR IGNORE INTO groups (name, generation) VALUES (?, 0)').run(group);
        const id = this.db.prepare('SELECT id FROM groups WHERE name = ?').pluck().get(group) as number;
        const alive = this.db
          .prepare('SELECT count(*) FROM group_members WHERE grp = ? AND expires >= ?')
          .pluck()
          .get(id, this.clock());
        if (alive !== 0)
          throw new CardanError(
            'USAGE',
            `Group "${group}" has members that commit by themselves. Take another name for this reader.`,
          );
        const set = this.db.prepare(
          `INSERT INTO group_partitions VALUES (?, ?, ?, ?, NULL, 0)
           ON CONFLICT DO UPDATE SET committed = excluded.committed, owner = NULL`,
        );
        for (const [partition, next] of Object.entries(offsets)) set.run(id, topic, Number(partition), next);
      }),
    );
  }

  /** The member leaves; others go on at once with what was committed. */
  async leave(member: Member): Promise<void> {
    if (this.#members.delete(member)) await member.leave();
  }

  async leaveAll(): Promise<void> {
    for (const member of this.#members) await this.leave(member);
  }
}

/** One member of a group: one `subscribe` that is under way. */
export class Member {
  readonly #groups: Groups;
  readonly #topics: readonly GroupTopic[];
  readonly #id = randomUUID();
  readonly #statements: ReturnType<typeof prepare>;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #leases = new Map<string, Lease>();
  #generation = -1;
  #inHand: Lease | undefined;
  /** Whether the partition in hand is another member's as soon as its batch is done. */
  #owed = false;
  #left = false;
  #failure: Error | undefined;

  constructor(groups: Groups, group: number, topics: readonly GroupTopic[]) {
    this.#groups = groups;
    this.#topics = topics;
    this.#statements = prepare(groups.db, group, this.#id);
    // A timer of its own: a consumer may take minutes over a batch and keeps its place all the same.
    this.#heartbeat = setInterval(() => void this.#beat(), groups.sessionTimeoutMs / 3).unref();
  }

  /** The partitions that this member may read from now. */
  async leases(): Promise<Lease[]> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#statements.generation.get() !== this.#generation) await this.rebalance();
    return [...this.#leases.values()];
  }

  /** Marks the partition as being worked on: it is not given back before `commit`. */
  take(lease: Lease): void {
    this.#inHand = lease;
  }

  /**
   * Commits the batch in hand: the group goes on at `next`. When the partition has gone to another member
   * meanwhile this does nothing, and the batch is delivered again over there.
   */
  async commit(next: number): Promise<void> {
    const lease = this.#inHand;
    if (lease === undefined) return;
    await whenFree(() => {
      const { changes } = this.#statements.commit.run(next, lease.topic, lease.partition, lease.epoch);
      if (changes === 1) lease.next = next;
      // Fenced, or wanted by another member: look again at what is ours.
      if (changes !== 1 || this.#owed) this.#generation = -1;
      this.#inHand = undefined;
    });
  }

  /** Gives everything back. Does not throw. */
  async leave(): Promise<void> {
    this.#left = true;
    clearInterval(this.#heartbeat);
    const s = this.#statements;
    const leave = () =>
      transaction(this.#groups.db, () => {
        s.remove.run();
        s.freeAll.run();
        s.bump.run();
      });
    // Where even this cannot be written, the others take over after the session timeout.
    await whenFree(leave).catch(() => {});
    this.#groups.changed();
  }

  async #beat(): Promise<void> {
    try {
      await this.rebalance();
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#groups.changed();
    }
  }

  /** Heartbeat: renews the membership, removes the dead, gives back and takes partitions. */
  async rebalance(): Promise<void> {
    const before = this.#generation;
    await whenFree(() => {
      if (!this.#left) this.#adopt(transaction(this.#groups.db, () => this.#reassign()));
    });
    if (this.#generation !== before) this.#groups.changed();
  }

  #adopt(owned: readonly PartitionRow[]): void {
    const known = new Map(this.#leases);
    this.#leases.clear();
    for (const { topic, partition, epoch, committed } of owned) {
      const key = keyOf({ topic, partition });
      const lease = known.get(key);
      // The same epoch: it has been ours all the time.
      this.#leases.set(key, lease?.epoch === epoch ? lease : { topic, partition, epoch, next: committed });
    }
  }

  #reassign(): PartitionRow[] {
    const s = this.#statements;
    const now = this.#groups.clock();
    let changed = s.removeExpired.run(now).changes > 0;
    const expires = now + this.#groups.sessionTimeoutMs;
    if (s.renew.run(expires).changes === 0) {
      s.join.run(JSON.stringify(this.#topics.map((topic) => topic.id)), expires);
      changed = true;
    }
    if (changed) s.freeDead.run();

    const members = (s.members.all() as { member: string; topics: string }[]).map((row) => ({
      id: row.member,
      topics: JSON.parse(row.topics) as number[],
    }));
    const rows = new Map((s.partitions.all() as PartitionRow[]).map((row) => [keyOf(row), row]));
    this.#owed = false;
    for (const topic of this.#topics) {
      const readers = members.filter((member) => member.topics.includes(topic.id));
      for (let partition = 0; partition < topic.partitions; partition++) {
        const row = rows.get(keyOf({ topic: topic.id, partition }));
        const mine = readers[ownerIndex(topic.id, partition, readers.length)]?.id === this.#id;
        if (mine && row === undefined) s.create.run(topic.id, partition, topic.start(partition));
        else if (mine && row?.owner === null) s.take.run(topic.id, partition);
        else if (!mine && row?.owner === this.#id) {
          if (this.#isInHand(row)) {
            this.#owed = true;
            continue;
          }
          s.free.run(topic.id, partition);
        } else continue;
        changed = true;
      }
    }
    if (changed) s.bump.run();
    this.#generation = s.generation.get() as number;
    return s.owned.all() as PartitionRow[];
  }

  #isInHand(row: PartitionRow): boolean {
    const lease = this.#inHand;
    return lease?.topic === row.topic && lease.partition === row.partition && lease.epoch === row.epoch;
  }
}

function keyOf({ topic, partition }: { topic: number; partition: number }): string {
  return `${topic}/${partition}`;
}

/** Round-robin; topics begin at different members, so that those of one partition do not all go to the first. */
function ownerIndex(topic: number, partition: number, members: number): number {
  return (topic + partition) % members;
}

/** The statements of one member: `group` is a number of ours and `member` a UUID, so both can stand in SQL. */
function prepare(db: Database.Database, group: number, member: string) {
  const mine = `grp = ${group} AND owner = '${member}'`;
  const partition = `grp = ${group} AND topic = ? AND partition = ?`;
  return {
    generation: db.prepare(`SELECT generation FROM groups WHERE id = ${group}`).pluck(),
    bump: db.prepare(`UPDATE groups SET generation = generation + 1 WHERE id = ${group}`),
    members: db.prepare(`SELECT member, topics FROM group_members WHERE grp = ${group} ORDER BY member`),
    removeExpired: db.prepare(
      `DELETE FROM group_members WHERE grp = ${group} AND member <> '${member}' AND expires < ?`,
    ),
    renew: db.prepare(`UPDATE group_members SET expires = ? WHERE grp = ${group} AND member = '${member}'`),
    join: db.prepare(`INSERT INTO group_members VALUES (${group}, '${member}', ?, ?)`),
    remove: db.prepare(`DELETE FROM group_members WHERE grp = ${group} AND member = '${member}'`),
    freeDead: db.prepare(
      `UPDATE group_partitions SET owner = NULL WHERE grp = ${group} AND owner IS NOT NULL
       AND owner NOT IN (SELECT member FROM group_members WHERE grp = ${group})`,
    ),
    freeAll: db.prepare(`UPDATE group_partitions SET owner = NULL WHERE ${mine}`),
    partitions: db.prepare(`SELECT * FROM group_partitions WHERE grp = ${group}`),
    owned: db.prepare(`SELECT * FROM group_partitions WHERE ${mine} ORDER BY topic, partition`),
    create: db.prepare(`INSERT INTO group_partitions VALUES (${group}, ?, ?, ?, '${member}', 1)`),
    take: db.prepare(`UPDATE group_partitions SET owner = '${member}', epoch = epoch + 1 WHERE ${partition}`),
    free: db.prepare(`UPDATE group_partitions SET owner = NULL WHERE ${partition}`),
    commit: db.prepare(
      `UPDATE group_partitions SET committed = ? WHERE ${partition} AND owner = '${member}' AND epoch = ?`,
    ),
  };
}
