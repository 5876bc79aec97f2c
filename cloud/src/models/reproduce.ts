import { createHash } from 'node:crypto';
import { type Lineage, type ModelManifest } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { CLOUD_VERSION } from '../config.ts';
import { HYPER_PARAMETERS, type HyperParameters } from '../trainer/hyper-parameters.ts';
import { streamSettingsIn } from '../trainer/stream-settings.ts';
import { networkIn } from '../trainer/network-spec.ts';
import type { FlagSource } from '../trainer/failure-flags.ts';
import { trainModel } from '../trainer/training.ts';

/** What came of training a model again. */
export interface Reproduction {
  equal: boolean;
  /** Why not, or why it could not be tried; the first one is the likeliest. */
  reasons: string[];
  /** SHA-256 as published, and as it came out now; null when nothing was trained. */
  files: { file: string; published: string; again: string | null }[];
}

/**
 * Trains a model again from its own manifest: the same offsets of the log, seed and hyper-parameters, through the
 * trainer's own code. The log never changes and the fit is seeded, so the same code must come to the same bytes.
 */
export async function reproduce(
  log: EventLog,
  manifestBytes: Buffer,
  manifest: ModelManifest,
  signal?: AbortSignal,
): Promise<Reproduction> {
  const { lineage } = manifest;
  const published = {
    'manifest.json': sha256(manifestBytes),
    'model.json': manifest.files['model.json'].sha256,
    'weights.bin': manifest.files['weights.bin'].sha256,
  };
  const result = (reasons: string[], again?: typeof published): Reproduction => ({
    equal: again !== undefined && Object.entries(published).every(([file, hash]) => of(again, file) === hash),
    reasons,
    files: Object.entries(published).map(([file, hash]) => ({
      file,
      published: hash,
      again: again === undefined ? null : of(again, file),
    })),
  });
  const impossible = [...notOfThisTrainer(manifest), ...(await notInTheLog(log, lineage))];
  if (impossible.length > 0) return result(impossible);

  const stream = streamSettingsIn(lineage.hyperParameters);
  const { files, manifest: made } = await trainModel(log, {
    query: {
      signalSet: manifest.signalSet.id,
      offsets: lineage.offsets,
      eventOffsets: lineage.eventOffsets,
      ...(lineage.times === undefined ? {} : { times: rowTimes(lineage.times) }),
      ...(lineage.heldBack === undefined ? {} : { heldBack: lineage.heldBack }),
      rowsMax: Number(lineage.hyperParameters.rowsMax),
    },
    signalSet: manifest.signalSet,
    name: manifest.name,
    version: manifest.version,
    parent: lineage.parent,
    createdAt: manifest.createdAt,
    seed: lineage.seed,
    hyperParameters: hyperParametersOf(lineage),
    ...(stream === undefined ? {} : { stream: { settings: stream } }),
    ...(lineage.labels === undefined ? {} : { labels: lineage.labels.offsets }),
    thresholdFromRepairs: lineage.labels?.threshold ?? false,
    failureFlag: flagIn(lineage),
    falseAlarmsPer100Hours: boundIn(lineage),
    ...(signal === undefined ? {} : { signal }),
  });
  const again = {
    'manifest.json': sha256(files.manifest),
    'model.json': made.files['model.json'].sha256,
    'weights.bin': made.files['weights.bin'].sha256,
  };
  const compared = result([], again);
  if (compared.equal) return compared;
  const reasons = [];
  if (lineage.codeVersion !== CLOUD_VERSION)
    reasons.push(`it was trained by version ${lineage.codeVersion} of Cardan; this is ${CLOUD_VERSION}`);
  for (const field of ['rows', 'vehicles', 'rowsExcluded', 'duplicatesDropped'] as const)
    if (made.lineage[field] !== lineage[field])
      reasons.push(
        `${field} are ${made.lineage[field]} now, and were ${lineage[field]}: this is another log`,
      );
  if (reasons.length === 0)
    reasons.push('the same rows and the same version give other bytes: the code was changed since');
  return result(reasons, again);
}

function notOfThisTrainer({ engine, lineage }: ModelManifest): string[] {
  const missing = [...Object.keys(HYPER_PARAMETERS), 'rowsMax'].filter(
    (name) => typeof lineage.hyperParameters[name] !== 'number',
  );
  const reasons = [];
  if (engine !== 'dense' && networkIn(lineage) === undefined)
    reasons.push(`its engine is "${engine}", and its lineage does not name the layers: no trainer made it`);
  if (missing.length > 0)
    reasons.push(
      `its lineage has no ${missing.join(', ')}: this trainer, or this version of it, did not make it`,
    );
  return reasons;
}

/** Offsets that the log does not hold (any more). */
async function notInTheLog(log: EventLog, lineage: Lineage): Promise<string[]> {
  const reads = [
    [lineage.topic, lineage.offsets],
    ['vehicle-events', lineage.eventOffsets],
    ...(lineage.labels === undefined ? [] : [[lineage.labels.topic, lineage.labels.offsets] as const]),
  ] as const;
  const topics = new Set((await log.topics()).map(({ topic }) => topic));
  const reasons: string[] = [];
  for (const [topic, ranges] of reads) {
    const there = topics.has(topic) ? await log.offsets(topic) : [];
    for (const [partition, { from, to }] of Object.entries(ranges)) {
      if (from === to) continue;
      const has = there.find((offsets) => offsets.partition === Number(partition));
      if (has !== undefined && from >= has.earliest && to <= has.latest) continue;
      const now = has === undefined ? 'nothing' : `${has.earliest} to ${has.latest}`;
      reasons.push(
        `the offsets ${from} to ${to} of ${topic}, partition ${partition}, are not in the log (any more): it has ${now}`,
      );
    }
  }
  return reasons;
}

function hyperParametersOf({ hyperParameters }: Lineage): Partial<HyperParameters> {
  return Object.fromEntries(
    Object.keys(HYPER_PARAMETERS).map((name) => [name, Number(hyperParameters[name])]),
  );
}

function flagIn({ labels }: Lineage): FlagSource | undefined {
  if (labels?.flag === undefined) return undefined;
  const { topic, flag, vehicle, time } = labels;
  return {
    topic,
    flag,
    ...(vehicle === undefined ? {} : { vehicle }),
    ...(time === undefined ? {} : { time }),
  };
}

function boundIn({ hyperParameters: { falseAlarmsPer100Hours } }: Lineage): number | undefined {
  return falseAlarmsPer100Hours === undefined ? undefined : Number(falseAlarmsPer100Hours);
}

function rowTimes({ from, to }: NonNullable<Lineage['times']>) {
  return {
    from: from === null ? null : Date.parse(from),
    to: to === null ? null : Date.parse(to),
  };
}

function of(hashes: Record<string, string>, file: string): string {
  return hashes[file] ?? '';
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
