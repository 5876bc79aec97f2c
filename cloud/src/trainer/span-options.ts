import { InvalidArgumentError, Option, type Command } from 'commander';
import { numberBetween } from '@cardan/shared';
import type { Offsets, Position } from '@cardan/shared/event-log';
import { CLOUD_DEFAULTS } from '../config.ts';
import type { SpanFlags } from './log-span.ts';

/** The options of a command line that say what a trainer reads, and how fast. */
export interface SpanOptions extends SpanFlags {
  group: string;
  rowsPerSecond?: number;
  repairs?: boolean;
}

const RANGE = /^(\d{1,9}):(\d{1,15})(?:-(\d{1,15}))?$/;
const WITH_ZONE = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/;

/** Adds them to a command; without what is of no use to it. */
export function spanOptions(command: Command, { group = true, pace = true } = {}): Command {
  const option = (flags: string, text: string) =>
    new Option(flags, text).helpGroup('What the trainer reads:');
  command
    .addOption(
      option(
        '--from <position>',
        'earliest (default), latest, or a time such as 2026-01-01T00:00Z',
      ).argParser((text) => position(text, ['earliest', 'latest'])),
    )
    .addOption(
      option('--to <position>', 'now, or a time: train once on what is there until then, and end').argParser(
        (text) => (text === 'now' ? 'latest' : position(text, ['latest'])),
      ),
    )
    .addOption(option('--partitions <list>', 'only these, for example 0,3').argParser(partitionList))
    .addOption(
      option('--offsets <ranges>', 'PARTITION:FROM-TO,… to train once, PARTITION:FROM,… to go on').argParser(
        offsetList,
      ),
    )
    .addOption(option('--repairs', 'judge models by the workshop repairs in the log'));
  if (pace)
    command.addOption(
      option('--rows-per-second <n>', 'read no faster than this').argParser(numberBetween(1, 1e9)),
    );
  if (group)
    command.addOption(
      option('--group <name>', 'under which its lag is shown').default(CLOUD_DEFAULTS.trainer.group),
    );
  return command;
}

function position(text: string, words: readonly ('earliest' | 'latest')[]): Position {
  const word = words.find((known) => known === text);
  if (word !== undefined) return word;
  const time = new Date(text);
  if (!WITH_ZONE.test(text) || Number.isNaN(time.getTime()))
    throw new InvalidArgumentError(
      `It is ${words.join(', ')}, or a time with its zone, such as 2026-01-01T00:00Z or 2026-01-01T01:00+01:00.`,
    );
  return time;
}

function partitionList(text: string): number[] {
  const partitions = text.split(',').map((part) => part.trim());
  if (!partitions.every((part) => /^\d{1,9}$/.test(part)))
    throw new InvalidArgumentError('It is a list of partitions such as 0,3.');
  return [...new Set(partitions.map(Number))];
}

function offsetList(text: string): { from: Offsets; to: Offsets | undefined } {
  const from: Record<number, number> = {};
  const to: Record<number, number> = {};
  for (const part of text.split(',')) {
    const match = RANGE.exec(part.trim());
    if (match === null)
      throw new InvalidArgumentError('It is a list such as 0:100-200,3:0-50, or 0:100,3:0 without ends.');
    const partition = Number(match[1]);
    if (partition in from) throw new InvalidArgumentError(`Partition ${partition} is there twice.`);
    from[partition] = Number(match[2]);
    if (match[3] === undefined) continue;
    to[partition] = Number(match[3]);
    if (to[partition] < from[partition])
      throw new InvalidArgumentError(`Partition ${partition} ends before it begins.`);
  }
  const ends = Object.keys(to).length;
  if (ends !== 0 && ends !== Object.keys(from).length)
    throw new InvalidArgumentError('Give all partitions an end, or none.');
  return { from, to: ends === 0 ? undefined : to };
}
