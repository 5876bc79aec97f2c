import { createHash } from 'node:crypto';
import type { RolloutCreated } from '@cardan/shared';
import { parseFilter, type VehicleAttributes, type VehicleFilter } from './filter.ts';

/** How far a rollout has got. null: no vehicle has anything of it (any more). */
export type Reach = { stage: number; part: number } | null;

/** What a vehicle has by a rollout: the subject as a silent shadow, or for real. */
export type Role = 'candidate' | 'active' | undefined;

/** Where a vehicle stands in a plan. It depends on the rollout, the id and the attributes, and on no other vehicle. */
export interface Place {
  /** Whether it is in the shadow stage, if there is one. */
  shadow: boolean;
  /** The first stage of the kind `group` that has it; Infinity: none. */
  group: number;
  /** 0 … 1: when it is reached within a stage that widens. */
  turn: number;
}

/**
 * Puts vehicles into the stages of a plan. By hash, so that nobody has to remember who is where, and a car that joins
 * late is in its group at once; and by the rollout's id, so that not the same cars are the canaries each time.
 */
export class Membership {
  private readonly rollout: RolloutCreated;
  private readonly filter: VehicleFilter;
  private readonly filters: VehicleFilter[];

  constructor(rollout: RolloutCreated) {
    this.rollout = rollout;
    this.filter = parseFilter(rollout.filter);
    this.filters = rollout.stages.map(({ filter }) => parseFilter(filter));
  }

  /** Whether attributes matter. */
  get hasFilters(): boolean {
    const { filter, stages } = this.rollout;
    return [filter, ...stages.map((stage) => stage.filter)].some((text) => text.trim() !== '');
  }

  /** undefined: the rollout is not for this vehicle. */
  place(vehicle: string, attributes: VehicleAttributes): Place | undefined {
    if (!this.filter(attributes)) return undefined;
    const { rollout, stages } = this.rollout;
    const hash = createHash('sha256').update(`${rollout}\n${vehicle}`).digest();
    const percent = (100 * hash.readUIntBE(0, 6)) / 2 ** 48;
    const isIn = (stage: number) => percent < stages[stage]!.percent && this.filters[stage]!(attributes);
    const group = stages.findIndex(({ kind }, i) => kind === 'group' && isIn(i));
    return {
      shadow: stages[0]!.kind === 'shadow' && isIn(0),
      group: group < 0 ? Number.POSITIVE_INFINITY : group,
      turn: hash.readUIntBE(6, 6) / 2 ** 48,
    };
  }

  /** Whether a vehicle belongs to a stage, reached or not; to a group belong those of the groups before it, too. */
  belongs(place: Place, stage: number): boolean {
    return this.rollout.stages[stage]!.kind === 'shadow' ? place.shadow : place.group <= stage;
  }

  /** What a vehicle has when the rollout has got so far. */
  role(place: Place, reach: Reach): Role {
    if (reach === null) return undefined;
    const { stage, part } = reach;
    const inTurn = place.turn < part;
    if (this.rollout.stages[stage]!.kind === 'shadow')
      return place.shadow && inTurn ? 'candidate' : undefined;
    return place.group < stage || (place.group === stage && inTurn) ? 'active' : undefined;
  }
}

/** A change of what vehicles have. */
export interface Move {
  generation: number;
  reach: Reach;
  /** Nothing changes, but those reached are to try again. */
  retry: boolean;
}

/** Generation of the last change that concerns a vehicle; 0: none did. So nobody is woken by what is for others. */
export function generationOf(moves: readonly Move[], membership: Membership, place: Place): number {
  let role = membership.role(place, moves.at(-1)?.reach ?? null);
  for (let i = moves.length - 1; i >= 0; i--) {
    const { generation, retry } = moves[i]!;
    const before = membership.role(place, moves[i - 1]?.reach ?? null);
    if (before !== role || (retry && role !== undefined)) return generation;
    role = before;
  }
  return 0;
}
