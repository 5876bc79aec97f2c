import {
  CardanError,
  cloudEvent,
  ensureLogTopics,
  eventToRecord,
  recordToEvent,
  type CloudEvent,
  type EventData,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { Tail } from '../registry/tail.ts';
import { inDay } from './decide.ts';
import { isOver, LoopState, type Proposal } from './loop-state.ts';

const SOURCE = '/services/registry';

export interface LoopDeskOptions {
  log: EventLog;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  onProblem: (error: CardanError) => void;
}

/** A proposal as the API gives it. */
export type ProposalView = Omit<Proposal, 'createdAt' | 'changedAt'> & {
  createdAt: string;
  changedAt: string;
};

export interface LoopStatus {
  /** The proposal that is under way. */
  open: string | null;
  proposals: number;
  /** Asked for by the loop in the last 24 hours. */
  trainingsInDay: number;
  /** Of the models that vehicles should run, by signal set. */
  drifts: EventData['io.cardan.loop.drift-detected'][];
}

/** Where persons see what the loop proposes, and say yes or no. It knows the loop by the log alone. */
export class LoopDesk {
  private readonly options: LoopDeskOptions;
  private readonly clock: () => number;
  private readonly state = new LoopState();
  private tail: Tail | undefined;
  private writing: Promise<unknown> = Promise.resolve();

  private constructor(options: LoopDeskOptions) {
    this.options = options;
    this.clock = options.clock ?? Date.now;
  }

  /** Resolves when the log has been replayed. */
  static async open(options: LoopDeskOptions): Promise<LoopDesk> {
    const { log, onProblem } = options;
    const desk = new LoopDesk(options);
    await ensureLogTopics(log, ['models']);
    desk.tail = await Tail.start({
      log,
      topic: 'models',
      apply: ({ records }) => {
        for (const record of records) {
          try {
            desk.state.take(recordToEvent(record));
          } catch {
            // The registry counts what cannot be read.
          }
        }
      },
      settle: async () => undefined,
      onProblem,
    });
    return desk;
  }

  status(): LoopStatus {
    const { open, proposals, drifts } = this.state;
    return {
      open: open?.proposal ?? null,
      proposals: proposals.size,
      trainingsInDay: inDay(this.state, this.clock()),
      drifts: [...drifts.values()].map(({ data }) => data),
    };
  }

  /** Newest last. */
  list(): ProposalView[] {
    return [...this.state.proposals.values()].map(view);
  }

  /** Throws PROPOSAL_UNKNOWN. */
  get(id: string): ProposalView {
    return view(this.proposal(id));
  }

  /** Everything that happened to it, oldest first, with the evidence; drift that it may come from is before it. Throws PROPOSAL_UNKNOWN. */
  async history(id: string): Promise<CloudEvent[]> {
    const { champion } = this.proposal(id);
    const events: CloudEvent[] = [];
    for await (const { records } of this.options.log.read('models', { from: 'earliest', to: 'latest' }))
      for (const record of records) {
        let event;
        try {
          event = recordToEvent(record);
        } catch {
          continue;
        }
        const data = event.data as { proposal?: string; training?: string; drift?: string } | null;
        const isDrift = data?.drift?.startsWith(`drift ${champion.name} ${champion.version} `) ?? false;
        const isOwn = data?.proposal === id || data?.training === id;
        if ((isDrift || isOwn) && event.type !== 'io.cardan.training.progress') events.push(event);
      }
    return events;
  }

  /** Of the training, or, when the candidate was judged, of the rollout. Throws PROPOSAL_UNKNOWN, PROPOSAL_STATE. */
  approve(id: string, by: string, reason = ''): Promise<ProposalView> {
    return this.change(id, ({ status, rolloutApproved }) => {
      const isJudged = status === 'judged' && !rolloutApproved;
      if (status !== 'waiting' && !isJudged) return undefined;
      const step = isJudged ? 'rollout' : 'training';
      return { type: 'io.cardan.loop.approved', data: { proposal: id, step, by, reason } };
    });
  }

  /** Throws PROPOSAL_UNKNOWN, PROPOSAL_STATE. */
  reject(id: string, by: string, reason = ''): Promise<ProposalView> {
    return this.change(id, (proposal) =>
      isOver(proposal) ? undefined : { type: 'io.cardan.loop.rejected', data: { proposal: id, by, reason } },
    );
  }

  async close(): Promise<void> {
    await this.writing;
    await this.tail?.close();
  }

  private change(
    id: string,
    step: (
      proposal: Proposal,
    ) =>
      | { type: 'io.cardan.loop.approved'; data: EventData['io.cardan.loop.approved'] }
      | { type: 'io.cardan.loop.rejected'; data: EventData['io.cardan.loop.rejected'] }
      | undefined,
  ): Promise<ProposalView> {
    const result = this.writing.then(async () => {
      await this.tail?.caughtUp();
      const proposal = this.proposal(id);
      const made = step(proposal);
      if (made === undefined)
        throw new CardanError('PROPOSAL_STATE', `The proposal ${id} is ${proposal.status}: ${proposal.why}.`);
      const time = this.clock();
      const event = cloudEvent(
        made.type,
        { source: SOURCE, id: `${made.type} ${id} ${time}`, time },
        made.data,
      );
      await this.options.log.append('models', [eventToRecord(proposal.champion.name, event)]);
      await this.tail?.caughtUp();
      return this.get(id);
    });
    this.writing = result.catch(() => undefined);
    return result;
  }

  private proposal(id: string): Proposal {
    const proposal = this.state.proposals.get(id);
    if (proposal === undefined)
      throw new CardanError('PROPOSAL_UNKNOWN', `The loop has made no proposal ${id}.`);
    return proposal;
  }
}

function view(proposal: Proposal): ProposalView {
  return {
    ...proposal,
    createdAt: new Date(proposal.createdAt).toISOString(),
    changedAt: new Date(proposal.changedAt).toISOString(),
  };
}
