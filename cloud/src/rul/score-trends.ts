import { CardanError, decodeScores, ensureLogTopics } from '@cardan/shared';
import type { Batch, EventLog } from '@cardan/shared/event-log';
import { Tail } from '../registry/tail.ts';
import { TimeSlots } from './time-slots.ts';
import { timeToLimit, type Trend } from './time-to-limit.ts';

/** How far back trends look: a quarter of a year, in which a fault grows or does not. */
const HISTORY_MS = 90 * 24 * 3_600_000;
/** Vehicles whose history is kept, those that drove last: at most 20 kB each. */
const VEHICLES_MAX = 20_000;
/** Somebody who asks while the log is still being read waits so long; then he is told to ask again. */
const WAIT_MS = 10_000;

export interface ScoreTrendsOptions {
  log: EventLog;
  /** Milliseconds since 1970. */
  clock: () => number;
  onProblem: (error: CardanError) => void;
}

/**
 * Where the scores of each vehicle are going: a projection of `predictions`. It is begun when somebody asks for the
 * first time, so a fleet whose trends nobody looks at pays nothing. Scores are counted in thresholds of their model, so
 * that a history may span several of them; the limit is 1.
 */
export class ScoreTrends {
  private readonly options: ScoreTrendsOptions;
  /** The one that drove last is at the end. */
  private readonly vehicles = new Map<string, TimeSlots>();
  private reading: Promise<Tail> | undefined;

  constructor(options: ScoreTrendsOptions) {
    this.options = options;
  }

  /** Of everything that is in the log when it is asked for. Throws LOG_BUSY while that is still being read. */
  async of(vehicle: string): Promise<Trend> {
    await this.caughtUp();
    const { times, means, widthMs } = (this.vehicles.get(vehicle) ?? new TimeSlots()).means;
    return timeToLimit({ times, means, widthMs }, 1);
  }

  async close(): Promise<void> {
    const tail = await this.reading?.catch(() => undefined);
    await tail?.close();
  }

  private async caughtUp(): Promise<void> {
    this.reading ??= this.begin();
    // One that could not begin is begun anew by who asks next.
    this.reading.catch(() => (this.reading = undefined));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new CardanError('LOG_BUSY', 'The predictions in the log are still being read. Ask again soon.'),
          ),
        WAIT_MS,
      );
    });
    try {
      await Promise.race([late, this.reading.then((tail) => tail.caughtUp())]);
    } finally {
      clearTimeout(timer);
    }
  }

  private async begin(): Promise<Tail> {
    const { log, clock, onProblem } = this.options;
    await ensureLogTopics(log, ['predictions']);
    const from = await log.resolve('predictions', new Date(clock() - HISTORY_MS));
    this.vehicles.clear();
    return Tail.start({
      log,
      topic: 'predictions',
      from,
      apply: (batch) => this.take(batch),
      settle: async () => undefined,
      onProblem,
    });
  }

  private take({ records }: Batch): void {
    for (const { key, value } of records) {
      if (key === null || value === null) continue;
      try {
        const { times, scores, threshold } = decodeScores(value);
        const slots = this.vehicles.get(key) ?? new TimeSlots();
        scores.forEach((score, row) => slots.add(times[row]!, score / threshold));
        this.vehicles.delete(key);
        this.vehicles.set(key, slots);
        if (this.vehicles.size > VEHICLES_MAX) this.vehicles.delete(this.vehicles.keys().next().value ?? key);
      } catch (error) {
        if (!(error instanceof CardanError)) throw error;
        this.options.onProblem(error);
      }
    }
  }
}
