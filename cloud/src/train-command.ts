import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Option, type Command } from 'commander';
import {
  CardanError,
  ensureDataDir,
  ensureLogTopics,
  isEvent,
  logConnection,
  logOptions,
  problemPrinter,
  readGivenFile,
  replaceFile,
  stopSignal,
  type LogFlags,
} from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { CLOUD_DEFAULTS } from './config.ts';
import { registryClient, registryOptions, type RegistryOptions } from './registry-options.ts';
import type { ModelFiles } from './registry-client.ts';
import { telemetryOf } from './telemetry-record.ts';
import { readCheckpoint, writeCheckpoint, type Checkpoint } from './trainer/checkpoint.ts';
import { findingText } from './trainer/finding-text.ts';
import {
  beginOf,
  endOf,
  logSpan,
  offsetRanges,
  rowsWithin,
  timesOf,
  type LogSpan,
} from './trainer/log-span.ts';
import { boundText } from './trainer/false-alarms.ts';
import { orderedRecords } from './trainer/ordered-records.ts';
import { ProgressLine } from './trainer/progress-line.ts';
import { spanOptions, type SpanOptions } from './trainer/span-options.ts';
import { STREAM_SETTINGS } from './trainer/stream-settings.ts';
import { parseTrainConfig, type TrainConfig } from './trainer/train-config.ts';
import { allEvents, catchUp, Training } from './trainer/training.ts';
import { trivialText } from './trainer/trivial-detectors.ts';

interface TrainFlags extends LogFlags, RegistryOptions, SpanOptions {
  config?: string;
  signalSet?: string;
  thresholdFrom?: 'repairs' | 'labels';
  out?: string;
  checkpoint: string;
  resume?: boolean;
}

/** As shells have it: 128 and the number of SIGINT. */
const EXIT_INTERRUPTED = 130;

/** Adds `train`. */
export function trainCommand(program: Command): void {
  spanOptions(logOptions(registryOptions(program.command('train'))), { group: false, pace: false })
    .description(
      'Train a model on a span of the log, however long, as a stream in bounded memory (docs/training.md).',
    )
    .option('--config <file>', 'a model.yaml: inputs, network, epochs, seed and more')
    .option('--signal-set <id>', 'whose rows; default that of the first row in the span')
    .addOption(
      new Option(
        '--threshold-from <labels>',
        'choose the alarm threshold by the workshop repairs in the log, or by the labels of model.yaml, and judge by them',
      ).choices(['repairs', 'labels']),
    )
    .option('--out <dir>', 'write the model’s three files there, and publish nothing')
    .option(
      '--checkpoint <file>',
      'where to save what is done, to go on later',
      '.cardan/cloud/train.checkpoint',
    )
    .option('--resume', 'go on from the checkpoint')
    .action(train);
}

async function train(flags: TrainFlags, command: Command): Promise<void> {
  const config = readConfig(flags.config);
  if (config.falseAlarmsPer100Hours !== undefined && flags.thresholdFrom !== undefined)
    throw new CardanError(
      'USAGE',
      'A threshold is chosen by --threshold-from or by falseAlarmsPer100Hours in model.yaml, not by both. Leave one of them out.',
    );
  const byRepairs = flags.repairs === true || flags.thresholdFrom === 'repairs';
  if (config.labels !== undefined && byRepairs)
    throw new CardanError(
      'USAGE',
      'A model is judged by repairs or by the labels of model.yaml, not by both. Leave --repairs and --threshold-from repairs out, or labels.',
    );
  if (config.labels === undefined && flags.thresholdFrom === 'labels')
    throw new CardanError('USAGE', '--threshold-from labels needs labels in model.yaml (docs/training.md).');
  const span = logSpan(
    flags.to === undefined && flags.offsets === undefined ? { ...flags, to: 'latest' } : flags,
  );
  if (span.to === undefined)
    throw new CardanError('USAGE', 'Give all offsets an end, PARTITION:FROM-TO: a training ends somewhere.');
  const digest = digestOf(config, span, flags);
  const resumed = flags.resume === true ? readCheckpoint(flags.checkpoint) : undefined;
  if (resumed !== undefined && resumed.digest !== digest)
    throw new CardanError(
      'CHECKPOINT_UNUSABLE',
      `${flags.checkpoint} was saved by a training with another configuration, span or log. Give the same flags and the same model.yaml, or leave --resume out to begin anew.`,
    );
  mkdirSync(dirname(flags.checkpoint), { recursive: true });
  const { url, kafka } = logConnection(command, flags);
  const signal = stopSignal();
  const log = await openEventLog(url, { ...kafka, onProblem: problemPrinter() });
  const line = new ProgressLine();
  const started = performance.now();
  try {
    await ensureLogTopics(log);
    const checkpoint = resumed ?? (await begin(log, span, flags.signalSet, digest, signal));
    const registry = flags.out === undefined ? registryClient(flags) : { publish: toFolder(flags.out) };
    const training = new Training({
      log,
      registry,
      events: flags.out === undefined,
      repairs: flags.repairs ?? false,
      thresholdFromRepairs: flags.thresholdFrom !== undefined,
      failureFlag: config.labels,
      falseAlarmsPer100Hours: config.falseAlarmsPer100Hours,
      seed: config.seed ?? CLOUD_DEFAULTS.trainer.seed,
      hyperParameters: config.hyperParameters,
      onProblem: problemPrinter(),
      stream: {
        settings: config.settings,
        resume: checkpoint.position,
        onProgress: (progress) => line.show(progress),
        onFindings: (findings, others) => {
          line.end();
          for (const text of [...findings.map(findingText), ...othersText(others)])
            process.stderr.write(`${text}\n`);
        },
        onPosition: async (position) => {
          checkpoint.position = position;
          await writeCheckpoint(flags.checkpoint, checkpoint);
        },
      },
    });
    await catchUp(
      log,
      (event) => {
        if (isEvent(event, 'io.cardan.model.published')) training.published(event.data.manifest);
      },
      problemPrinter(),
    );
    try {
      const { signalSet, offsets, eventOffsets, times } = checkpoint;
      const manifest = await training.run(
        { training: randomUUID(), signalSet, reason: 'a span of the log', offsets, eventOffsets, times },
        signal,
      );
      line.end();
      const { name, version, lineage, alarm, metrics } = manifest;
      const { rows, vehicles } = lineage;
      rmSync(flags.checkpoint, { force: true });
      process.stderr.write(
        `${name} version ${version}, ${rows} rows of ${vehicles} vehicles from ${lineage.span.from} to ${lineage.span.to}, ` +
          `${flags.out === undefined ? 'published' : `written to ${flags.out}`}\n`,
      );
      const bound = boundText(lineage.hyperParameters.falseAlarmsPer100Hours, metrics);
      for (const text of [bound, trivialText(metrics)])
        if (text !== undefined) process.stderr.write(`${text}\n`);
      const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
      process.stdout.write(
        `${JSON.stringify({ name, version, rows, vehicles, span: lineage.span, threshold: alarm.threshold, metrics, seconds })}\n`,
      );
    } catch (error) {
      line.end();
      if (!signal.aborted) throw error;
      await writeCheckpoint(flags.checkpoint, checkpoint);
      const { position } = checkpoint;
      process.stderr.write(
        `stopped ${position === undefined ? 'before the first epoch' : `in epoch ${position.epoch}, after ${position.rows} of its rows`}; ` +
          `saved to ${flags.checkpoint}. Go on with the same flags and --resume.\n`,
      );
      process.exitCode = EXIT_INTERRUPTED;
    }
  } finally {
    await log.close();
  }
}

function readConfig(path: string | undefined): TrainConfig {
  if (path === undefined) return { seed: undefined, settings: STREAM_SETTINGS, hyperParameters: {} };
  const text = (file: string, what: string) => readGivenFile(file, `${what} ${file}`).toString('utf8');
  return parseTrainConfig(text(path, 'the configuration'), (named) =>
    text(resolve(dirname(path), named), 'the topology'),
  );
}

/** Pins what is to be read: rows that come later are not in. */
async function begin(
  log: EventLog,
  span: LogSpan,
  asked: string | undefined,
  digest: string,
  signal: AbortSignal,
): Promise<Checkpoint> {
  const offsets = offsetRanges(await beginOf(log, span), await endOf(log, span));
  const pinned = { digest, offsets, eventOffsets: await allEvents(log), times: timesOf(span) };
  if (asked !== undefined) return { ...pinned, signalSet: asked, position: undefined };
  for await (const records of orderedRecords(log, 'telemetry', offsets, signal))
    for (const { value } of records) {
      const batch = value === null ? undefined : telemetryOf(value, () => undefined);
      if (batch !== undefined && rowsWithin(batch.times, pinned.times) > 0)
        return { ...pinned, signalSet: batch.signalSet, position: undefined };
    }
  throw new CardanError(
    'TRAINING_DATA_INSUFFICIENT',
    'The log has no telemetry in this span. Look at --from, --to, --partitions and --offsets.',
  );
}

/** The end of a span that is "now" counts as the word: a training that goes on keeps the end that it began with. */
function digestOf(config: TrainConfig, span: LogSpan, { signalSet, log }: TrainFlags): string {
  const all = { config, span, signalSet: signalSet ?? null, log };
  return createHash('sha256').update(JSON.stringify(all)).digest('hex');
}

function toFolder(dir: string): (files: ModelFiles) => Promise<void> {
  return async ({ manifest, model, weights }) => {
    ensureDataDir(dir);
    await replaceFile(join(dir, 'model.json'), model);
    await replaceFile(join(dir, 'weights.bin'), weights);
    // Last: a folder that has one is whole.
    await replaceFile(join(dir, 'manifest.json'), manifest);
  };
}

function othersText(others: ReadonlyMap<string, number>): string[] {
  return [...others].map(
    ([id, rows]) => `${rows} rows are of the signal set ${id}; train on them with --signal-set ${id}`,
  );
}
