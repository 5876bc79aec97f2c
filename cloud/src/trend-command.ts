import type { Command } from 'commander';
import { CardanError, logConnection, logOptions, type LogFlags, problemPrinter } from '@cardan/shared';
import { openEventLog, type Position } from '@cardan/shared/event-log';
import { readHistoryOf } from './rul/read-history.ts';
import { timeToLimit, type Trend } from './rul/time-to-limit.ts';
import { printTable, shortNumber } from './table.ts';

interface TrendFlags extends LogFlags {
  signal?: string;
  limit?: number;
  from: Position;
  json?: boolean;
}

/** Adds `trend`. */
export function trendCommand(program: Command): void {
  logOptions(program.command('trend'))
    .description(
      'Where the score of a vehicle, or one of its signals, is going, and when it crosses its limit if it goes on so (docs/prediction.md).',
    )
    .argument('<vehicle>')
    .option('--signal <name>', 'this signal in place of the score')
    .option('--limit <number>', 'of the signal; that of the score is its threshold', finite)
    .option(
      '--from <time>',
      'look at the log from here on: a time (RFC 3339), or earliest',
      position,
      'earliest',
    )
    .option('--json', 'one JSON object')
    .action(trend);
}

async function trend(vehicle: string, options: TrendFlags, command: Command): Promise<void> {
  const { signal, limit, from, json = false } = options;
  if ((signal === undefined) !== (limit === undefined))
    throw new CardanError(
      'USAGE',
      '--signal and --limit belong together: which limit is meant, nobody else can know.',
    );
  const { url, kafka } = logConnection(command, options);
  const onProblem = problemPrinter();
  const log = await openEventLog(url, { ...kafka, onProblem });
  try {
    const { means } = await readHistoryOf({ log, vehicle, from, signal, onProblem });
    const found = timeToLimit(means, limit ?? 1);
    if (json) process.stdout.write(`${JSON.stringify({ vehicle, of: signal ?? 'score', ...found })}\n`);
    else print(vehicle, signal, found);
  } finally {
    await log.close();
  }
}

function print(vehicle: string, signal: string | undefined, found: Trend): void {
  const { level, limit, points, slope, shape, crosses, confidence } = found;
  const unit = signal === undefined ? ' thresholds' : '';
  const percent = `${Math.round(100 * confidence)} %`;
  const lines = [
    ['vehicle', vehicle],
    ['of', signal ?? 'score'],
    ['limit', `${limit}${signal === undefined ? ' (the threshold)' : ''}`],
    ['points', String(points)],
    ['trend', sentenceOf(found)],
  ];
  if (level !== null) lines.push(['now', `${shortNumber(level)}${unit}`]);
  if (slope !== null)
    lines.push([
      'per hour',
      `${shortNumber(slope.perHour)}${unit} (${percent}: ${shortNumber(slope.low)} to ${shortNumber(slope.high)}), ${shape}`,
    ]);
  if (crosses !== null)
    lines.push([
      'crosses',
      `${timeText(crosses.at)} (${percent}: ${timeText(crosses.low)} to ${timeText(crosses.high)})`,
    ]);
  printTable(lines);
}

function sentenceOf({ state, points }: Trend): string {
  switch (state) {
    case 'short':
      return `too little history: ${points} points, and six are needed`;
    case 'none':
      return 'no trend: it may as well be chance';
    case 'away':
      return 'it moves away from the limit';
    case 'crossed':
      return 'it is beyond the limit';
    case 'towards':
      return 'it moves towards the limit';
  }
}

function timeText(ms: number | null): string {
  return ms === null ? 'too far ahead to say' : new Date(ms).toISOString();
}

function finite(text: string): number {
  const number = text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(number)) throw new CardanError('USAGE', `--limit takes a number, not "${text}".`);
  return number;
}

function position(text: string): Position {
  if (text === 'earliest') return text;
  const time = new Date(text);
  if (Number.isNaN(time.getTime()))
    throw new CardanError(
      'USAGE',
      `--from takes a time such as 2026-01-01T00:00Z or "earliest", not "${text}".`,
    );
  return time;
}
