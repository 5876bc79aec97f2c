import { AssignerProtocol } from 'kafkajs';
import { CardanError } from '../../errors.ts';
import { type Broker, type Connection, ConnectionClosed, toCardanError, typeOf } from './cluster.ts';

/** Name of our assignment in the protocol; it gives the partitions in turn, as Kafka's RoundRobinAssignor. */
const ASSIGNOR = 'roundrobin';
/** A member that has not finished its batch for so long loses its partitions when others join or leave. */
const REBALANCE_TIMEOUT_MS = 60_000;
const HEARTBEAT_MS = 1000;

const { MemberMetadata, MemberAssignment } = AssignerProtocol;

export interface Assigned {
  topic: string;
  partition: number;
  /** Committed offset; undefined when the group has none. */
  committed: number | undefined;
}

export interface MemberOptions {
  group: string;
  topics: readonly string[];
  sessionTimeoutMs: number;
  /** Partitions of a topic now. */
  partitionsOf: (topic: string) => Promise<number>;
  /** Called when `join` should be called again. */
  onDisturbed: () => void;
  onTrouble: (error: CardanError) => void;
}

interface Membership {
  coordinator: Broker;
  generationId: number;
  memberId: string;
}

/**
 * One member of a consumer group, by Kafka's classic protocol: JoinGroup, SyncGroup, Heartbeat, OffsetCommit. Its
 * heart beats by a timer of its own, whatever the consumer does. When others join or leave, the member first
 * finishes and commits the batch in hand, and then joins again: nothing is delivered twice where nobody dies.
 */
export class Member {
  readonly #connection: Connection;
  readonly #options: MemberOptions;
  #membership: Membership | undefined;
  /** Kept over rejoining, so that the coordinator knows the member again. */
  #memberId = '';
  #disturbed = true;
  #left = false;
  #beating = false;
  #heartbeat: NodeJS.Timeout | undefined;
  #lastBeat = 0;

  constructor(connection: Connection, options: MemberOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** Whether `join` has to be called before anything may be read. */
  get disturbed(): boolean {
    return this.#disturbed;
  }

  /** Joins the group, or joins it again, and returns what the member may read from now. */
  async join(signal?: AbortSignal): Promise<Assigned[]> {
    const { group, topics, sessionTimeoutMs, onTrouble } = this.#options;
    clearInterval(this.#heartbeat);
    return this.#connection.run(
      async (cluster) => {
        try {
          const coordinator = await cluster.findGroupCoordinator({ groupId: group });
          const joined = await coordinator.joinGroup({
            groupId: group,
            memberId: this.#memberId,
            sessionTimeout: sessionTimeoutMs,
            rebalanceTimeout: REBALANCE_TIMEOUT_MS,
            groupProtocols: [
              {
                name: ASSIGNOR,
                metadata: MemberMetadata.encode({
                  version: 1,
                  topics: [...topics],
                  userData: Buffer.alloc(0),
                }),
              },
            ],
          });
          const { generationId, memberId } = joined;
          this.#memberId = memberId;
          this.#disturbed = false;
          const { memberAssignment } = await coordinator.syncGroup({
            groupId: group,
            generationId,
            memberId,
            groupAssignment: joined.leaderId === memberId ? await this.#assign(joined.members) : [],
          });
          this.#membership = { coordinator, generationId, memberId };
          this.#lastBeat = performance.now();
          this.#heartbeat = setInterval(() => void this.#beat(), HEARTBEAT_MS).unref();
          return await this.#committed(coordinator, partitionsIn(memberAssignment));
        } catch (error) {
          const type = typeOf(error);
          if (type === 'UNKNOWN_MEMBER_ID') this.#memberId = '';
          // Somebody came or went while we were joining: that is no failure, it goes round once more.
          if (
            type === 'UNKNOWN_MEMBER_ID' ||
            type === 'ILLEGAL_GENERATION' ||
            type === 'REBALANCE_IN_PROGRESS'
          )
            throw Object.assign(new Error(type), { type: 'GROUP_LOAD_IN_PROGRESS' });
          throw error;
        }
      },
      {
        topics,
        patienceMs: Number.POSITIVE_INFINITY,
        ...(signal === undefined ? {} : { signal }),
        onTrouble: (error) => {
          if (typeOf(error.cause) !== 'GROUP_LOAD_IN_PROGRESS') onTrouble(error);
        },
      },
    );
  }

  /**
   * Commits offsets, the next ones to read. False when the partitions are no longer this member's: the batch is then
   * delivered again over there.
   */
  async commit(offsets: readonly { topic: string; partition: number; next: number }[]): Promise<boolean> {
    const { group, onTrouble } = this.#options;
    const membership = this.#membership;
    if (membership === undefined) return false;
    const topics = byTopic(offsets);
    try {
      await this.#connection.run(
        async (cluster) => {
          const coordinator = await cluster.findGroupCoordinator({ groupId: group });
          await coordinator.offsetCommit({
            groupId: group,
            groupGenerationId: membership.generationId,
            memberId: membership.memberId,
            topics: [...topics].map(([topic, list]) => ({
              topic,
              partitions: list.map(({ partition, next }) => ({
                partition,
                offset: String(next),
                metadata: '',
              })),
            })),
          });
        },
        { patienceMs: this.#options.sessionTimeoutMs, onTrouble },
      );
      return true;
    } catch (error) {
      if (error instanceof ConnectionClosed) throw error;
      const cardan = toCardanError(error);
      if (cardan.code === 'LOG_DENIED') throw cardan;
      if (!isFenced(cardan.cause)) onTrouble(cardan);
      this.#disturb();
      return false;
    }
  }

  /** Leaves the group; others go on at once. Does not throw: where it cannot be said, the session runs out. */
  async leave(): Promise<void> {
    if (this.#left) return;
    this.#left = true;
    clearInterval(this.#heartbeat);
    const memberId = this.#memberId;
    if (memberId === '') return;
    await this.#connection
      .once(async (cluster) => {
        const coordinator = await cluster.findGroupCoordinator({ groupId: this.#options.group });
        await coordinator.leaveGroup({ groupId: this.#options.group, memberId });
      })
      .catch(() => undefined);
  }

  async #beat(): Promise<void> {
    const membership = this.#membership;
    if (membership === undefined || this.#beating || this.#left) return;
    this.#beating = true;
    const { coordinator, generationId, memberId } = membership;
    try {
      await coordinator.heartbeat({
        groupId: this.#options.group,
        groupGenerationId: generationId,
        memberId,
      });
      this.#lastBeat = performance.now();
    } catch (error) {
      const type = typeOf(error);
      if (type === 'REBALANCE_IN_PROGRESS') this.#lastBeat = performance.now();
      if (type === 'UNKNOWN_MEMBER_ID') this.#memberId = '';
      // A coordinator that does not answer may be restarting; after the session it has forgotten us for sure.
      const over = performance.now() - this.#lastBeat > this.#options.sessionTimeoutMs;
      if (type !== undefined || over) this.#disturb();
      else await this.#findCoordinator(membership);
    } finally {
      this.#beating = false;
    }
  }

  async #findCoordinator(membership: Membership): Promise<void> {
    await this.#connection
      .once(async (cluster) => {
        await cluster.refreshMetadata();
        membership.coordinator = await cluster.findGroupCoordinator({ groupId: this.#options.group });
      })
      .catch(() => undefined);
  }

  #disturb(): void {
    if (this.#disturbed) return;
    this.#disturbed = true;
    this.#options.onDisturbed();
  }

  /** As leader of the group: partitions in turn to the members that read the topic, sorted by their ids. */
  async #assign(
    members: readonly { memberId: string; memberMetadata: Buffer }[],
  ): Promise<{ memberId: string; memberAssignment: Buffer }[]> {
    const readers = members
      .map(({ memberId, memberMetadata }) => ({
        memberId,
        topics: MemberMetadata.decode(memberMetadata)?.topics ?? [],
        assignment: new Map<string, number[]>(),
      }))
      .sort((a, b) => (a.memberId < b.memberId ? -1 : 1));
    const topics = [...new Set(readers.flatMap(({ topics }) => topics))].sort();
    let turn = 0;
    for (const topic of topics) {
      const subscribed = readers.filter((reader) => reader.topics.includes(topic));
      const partitions = await this.#options.partitionsOf(topic).catch(() => 0);
      for (let partition = 0; partition < partitions; partition++) {
        const { assignment } = subscribed[turn++ % subscribed.length]!;
        assignment.set(topic, [...(assignment.get(topic) ?? []), partition]);
      }
    }
    return readers.map(({ memberId, assignment }) => ({
      memberId,
      memberAssignment: MemberAssignment.encode({
        version: 1,
        assignment: Object.fromEntries(assignment),
        userData: Buffer.alloc(0),
      }),
    }));
  }

  async #committed(
    coordinator: Broker,
    assigned: readonly { topic: string; partition: number }[],
  ): Promise<Assigned[]> {
    if (assigned.length === 0) return [];
    const topics = [...new Set(assigned.map(({ topic }) => topic))].map((topic) => ({
      topic,
      partitions: assigned.filter((one) => one.topic === topic).map(({ partition }) => ({ partition })),
    }));
    const { responses } = await coordinator.offsetFetch({ groupId: this.#options.group, topics });
    return responses.flatMap(({ topic, partitions }) =>
      partitions.map(({ partition, offset }) => ({
        topic,
        partition,
        committed: Number(offset) < 0 ? undefined : Number(offset),
      })),
    );
  }
}

function partitionsIn(memberAssignment: Buffer): { topic: string; partition: number }[] {
  const decoded = memberAssignment.length === 0 ? null : MemberAssignment.decode(memberAssignment);
  return Object.entries(decoded?.assignment ?? {}).flatMap(([topic, partitions]) =>
    partitions.map((partition) => ({ topic, partition })),
  );
}

function isFenced(error: unknown): boolean {
  const type = typeOf(error);
  return type === 'UNKNOWN_MEMBER_ID' || type === 'ILLEGAL_GENERATION' || type === 'REBALANCE_IN_PROGRESS';
}

function byTopic<T extends { topic: string }>(list: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of list) {
    const group = groups.get(one.topic);
    if (group === undefined) groups.set(one.topic, [one]);
    else group.push(one);
  }
  return groups;
}
