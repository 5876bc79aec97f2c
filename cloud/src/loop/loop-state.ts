import {
  isEvent,
  type CloudEvent,
  type LoopCandidateJudged,
  type LoopDriftDetected,
  type LoopRetrainingProposed,
  type ModelManifest,
  type ModelRef,
} from '@cardan/shared';

export type ProposalStatus =
  | 'waiting' // for the approval of its training
  | 'approved' // its training can be asked for
  | 'training'
  | 'trained' // its candidate is to be judged
  | 'judged' // good, and to be rolled out: with approval, as soon as there is one
  | 'rolling out'
  | 'failed'
  | 'worse' // or without enough evidence: it goes no further
  | 'rejected';

export interface Proposal extends LoopRetrainingProposed {
  status: ProposalStatus;
  /** When it was made, and when it last changed, milliseconds since 1970. */
  createdAt: number;
  changedAt: number;
  candidate: ModelRef | null;
  judged: LoopCandidateJudged | null;
  rollout: string | null;
  /** Whether its rollout may begin. */
  rolloutApproved: boolean;
  /** Why it ended, in words. */
  why: string;
}

export interface Champion {
  manifest: ModelManifest;
  manifestSha256: string;
}

/** Proposals that are remembered; those that are over go first. */
const PROPOSALS_MAX = 500;
const OVER: ReadonlySet<ProposalStatus> = new Set(['rolling out', 'failed', 'worse', 'rejected']);

export function isOver({ status }: Pick<Proposal, 'status'>): boolean {
  return OVER.has(status);
}

/**
 * What the topic `models` says of the loop. The fold of the events and of nothing else: an event that does not fit what
 * stands before it is passed over, so two loops on one log, or one that died in between, come to the same history.
 */
export class LoopState {
  /** By id, in the order in which they were made. */
  readonly proposals = new Map<string, Proposal>();
  /** Model of each signal set that its vehicles should run. */
  readonly champions = new Map<string, Champion>();
  /** Names of drifts and suspicions that were told. */
  readonly told = new Set<string>();
  /** When the loop asked for trainings, milliseconds since 1970; the newest last. */
  readonly trainings: number[] = [];
  /** Trainings of anybody that were asked for and have not ended, and when. */
  readonly underWay = new Map<string, number>();
  /** Drifts of the champions, by signal set; the newest of each. */
  readonly drifts = new Map<string, CloudEvent<LoopDriftDetected>>();
  /** Proposals that were ever made, per signal set. */
  readonly made = new Map<string, number>();
  private readonly versions = new Map<string, Champion>();

  /** The one that is under way; there is never another. */
  get open(): Proposal | undefined {
    return [...this.proposals.values()].find((proposal) => !isOver(proposal));
  }

  champion(signalSet: string): Champion | undefined {
    return this.champions.get(signalSet);
  }

  version({ name, version }: ModelRef): Champion | undefined {
    return this.versions.get(`${name} ${version}`);
  }

  /** Takes in an event of the topic `models`. */
  take(event: CloudEvent): void {
    const time = Date.parse(event.time);
    if (isEvent(event, 'io.cardan.model.published')) {
      const { manifest, manifestSha256 } = event.data;
      const key = `${manifest.name} ${manifest.version}`;
      if (!this.versions.has(key)) this.versions.set(key, { manifest, manifestSha256 });
    } else if (isEvent(event, 'io.cardan.rollout.decided')) {
      const { signalSet, active } = event.data;
      const champion = this.version(active);
      if (champion === undefined) return;
      this.champions.set(signalSet, champion);
      // What was said of another model does not hold for this one.
      this.drifts.delete(signalSet);
    } else if (isEvent(event, 'io.cardan.loop.drift-detected')) {
      this.told.add(event.data.drift);
      if (same(this.champions.get(event.data.signalSet)?.manifest, event.data.model))
        this.drifts.set(event.data.signalSet, event);
    } else if (isEvent(event, 'io.cardan.loop.sensor-fault-suspected')) {
      this.told.add(faultName(event.data));
    } else if (isEvent(event, 'io.cardan.loop.retraining-proposed')) {
      this.propose(event.data, time);
    } else if (isEvent(event, 'io.cardan.loop.approved')) {
      const { proposal: id, step, by } = event.data;
      if (step === 'training')
        this.move(id, ['waiting'], time, { status: 'approved', why: `approved by ${by}` });
      else this.move(id, ['judged'], time, { rolloutApproved: true, why: `approved by ${by}` });
    } else if (isEvent(event, 'io.cardan.loop.rejected')) {
      const { proposal: id, by, reason } = event.data;
      const open: ProposalStatus[] = ['waiting', 'approved', 'training', 'trained', 'judged'];
      this.move(id, open, time, { status: 'rejected', why: `rejected by ${by}${reason && `: ${reason}`}` });
    } else if (isEvent(event, 'io.cardan.training.requested')) {
      const { training } = event.data;
      const moved = this.move(training, ['approved'], time, {
        status: 'training',
        why: 'its training was asked for',
      });
      if (moved) this.trainings.push(time);
      this.underWay.set(training, time);
    } else if (isEvent(event, 'io.cardan.training.completed')) {
      const { training, model: name, version } = event.data;
      this.underWay.delete(training);
      this.move(training, ['training'], time, {
        status: 'trained',
        candidate: { name, version },
        why: `trained as version ${version}`,
      });
    } else if (isEvent(event, 'io.cardan.training.failed')) {
      const { training, code, message } = event.data;
      this.underWay.delete(training);
      this.move(training, ['training'], time, { status: 'failed', why: `${code}: ${message}` });
    } else if (isEvent(event, 'io.cardan.loop.candidate-judged')) {
      const { proposal: id, verdict } = event.data;
      const status = verdict === 'good' ? 'judged' : 'worse';
      this.move(id, ['trained'], time, { status, judged: event.data, why: verdict });
    } else if (isEvent(event, 'io.cardan.loop.rollout-begun')) {
      const { proposal: id, rollout } = event.data;
      this.move(id, ['judged'], time, { status: 'rolling out', rollout, why: `rollout ${rollout}` });
    }
  }

  private propose(data: LoopRetrainingProposed, time: number): void {
    if (this.proposals.has(data.proposal) || this.open !== undefined) return;
    this.made.set(data.signalSet, (this.made.get(data.signalSet) ?? 0) + 1);
    this.proposals.set(data.proposal, {
      ...data,
      status: data.approval ? 'waiting' : 'approved',
      createdAt: time,
      changedAt: time,
      candidate: null,
      judged: null,
      rollout: null,
      rolloutApproved: !data.approval,
      why: data.reason,
    });
    const [oldest] = this.proposals.keys();
    if (this.proposals.size > PROPOSALS_MAX && oldest !== undefined) this.proposals.delete(oldest);
  }

  private move(
    id: string,
    from: readonly ProposalStatus[],
    time: number,
    change: Partial<Proposal>,
  ): boolean {
    const proposal = this.proposals.get(id);
    if (proposal === undefined || !from.includes(proposal.status)) return false;
    Object.assign(proposal, change, { changedAt: time });
    return true;
  }
}

/** Of what is told once per vehicle and model. */
export function faultName({ vehicle, model }: { vehicle: string; model: ModelRef }): string {
  return `fault ${vehicle} ${model.name} ${model.version}`;
}

export function same(a: ModelRef | undefined, b: ModelRef): boolean {
  return a?.name === b.name && a.version === b.version;
}
