import type { EventLog, PartitionLag } from '@cardan/shared/event-log';
import { LOG_TOPICS, type LogTopic } from '@cardan/shared';
import type { LogSample, LogState } from './messages.ts';

/** Five minutes at one look a second. */
const SAMPLES_MAX = 300;
/** Rates in figures are averages over so many looks; the charts show every look. */
const SMOOTHING_SAMPLES = 4;
const GROUPS_MAX = 50;

type Look = { time: number; rows: number; appended: Map<string, number> };

/** Looks at the log's offsets once a second: what is in it, how fast it grows, and who lags behind. */
export class LogMeter {
  private readonly log: EventLog;
  private readonly rowsRead: () => number;
  private readonly looks: Look[] = [];
  private readonly samples: { sample: LogSample; revision: number }[] = [];
  topics: LogState['topics'] = [];
  groups: LogState['groups'] = [];
  rowsPerSecond = 0;

  /** `rowsRead` counts the rows of telemetry that came since the monitor began to follow the log. */
  constructor(log: EventLog, rowsRead: () => number) {
    this.log = log;
    this.rowsRead = rowsRead;
  }

  /** Takes a look. `time` is the clock of the monitor. */
  async look(time: number, nextRevision: () => number): Promise<void> {
    const appended = new Map<string, number>();
    const topics: LogState['topics'] = [];
    const before = this.looks.at(-1);
    const oldest = this.looks[0];
    const rate = (from: Look | undefined, count: (look: Look) => number, now: number) =>
      from === undefined || time <= from.time
        ? 0
        : Math.max(0, (1000 * (now - count(from))) / (time - from.time));
    for (const { topic, partitions, compacted } of await this.log.topics()) {
      if (!(topic in LOG_TOPICS)) continue;
      const offsets = await this.log.offsets(topic);
      const total = offsets.reduce((sum, { latest }) => sum + latest, 0);
      appended.set(topic, total);
      topics.push({
        topic,
        partitions,
        records: total - offsets.reduce((sum, { earliest }) => sum + earliest, 0),
        appended: total,
        perSecond: round(rate(oldest, (look) => look.appended.get(topic) ?? total, total)),
        compacted,
      });
    }
    const order = Object.keys(LOG_TOPICS);
    topics.sort((a, b) => order.indexOf(a.topic) - order.indexOf(b.topic));
    const groups: LogState['groups'] = [];
    for (const group of (await this.log.groups()).slice(0, GROUPS_MAX))
      groups.push(...byTopic(group, await this.log.lag(group)));
    const rows = this.rowsRead();
    this.topics = topics;
    this.groups = groups;
    this.rowsPerSecond = round(rate(oldest, (look) => look.rows, rows));
    if (before !== undefined) {
      const lags: Record<string, number> = {};
      for (const { group, lag } of groups) lags[group] = (lags[group] ?? 0) + lag;
      const perTopic = [...appended].map(([topic, total]): [string, number] => [
        topic,
        round(rate(before, (look) => look.appended.get(topic) ?? total, total)),
      ]);
      const sample: LogSample = {
        time,
        rows: round(rate(before, (look) => look.rows, rows)),
        topics: Object.fromEntries(perTopic),
        lags,
      };
      this.samples.push({ sample, revision: nextRevision() });
      if (this.samples.length > SAMPLES_MAX) this.samples.shift();
    }
    this.looks.push({ time, rows, appended });
    if (this.looks.length > SMOOTHING_SAMPLES) this.looks.shift();
  }

  /** Looks after a revision, oldest first. */
  since(revision: number): LogSample[] {
    return this.samples.flatMap((entry) => (entry.revision > revision ? [entry.sample] : []));
  }

  /** Records that were ever appended to a topic. */
  appended(topic: LogTopic): number {
    return this.looks.at(-1)?.appended.get(topic) ?? 0;
  }
}

function byTopic(group: string, lags: readonly PartitionLag[]): LogState['groups'] {
  const topics = new Map<string, LogState['groups'][number]>();
  for (const { topic, partition, committed, latest, lag } of lags) {
    const entry = topics.get(topic) ?? { group, topic, partitions: [], lag: 0 };
    entry.partitions.push({ partition, committed, latest, lag });
    entry.lag += lag;
    topics.set(topic, entry);
  }
  return [...topics.values()];
}

function round(value: number): number {
  return Math.round(10 * value) / 10;
}
