import type { TargetFile } from '@tufjs/models';
import { CardanError, FEATURE_SCHEMA, type ModelRef } from '@cardan/shared';
import type { ModelFile } from './model-store.ts';

/** What a car can run. */
export interface Abilities {
  engines: readonly string[];
  /** Most multiply-adds that one row may take. */
  operationsMax: number;
}

/** The files are as signed, but the car cannot take the model: trying again would change nothing. */
export class RefusedModelError extends CardanError {}

/** All files of a model together. A car's disk and memory are small. */
const MODEL_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Checks what is signed of a model's files, before a byte of them is downloaded. What a registry does not say is
 * found out when the model is loaded.
 *
 * Throws SIGNAL_SET_MISMATCH; as RefusedModelError MODEL_ENGINE_UNSUPPORTED, MODEL_FEATURES_UNSUPPORTED and
 * MODEL_TOO_LARGE.
 */
export function checkFits(
  { name, version }: ModelRef,
  targets: Record<ModelFile, TargetFile>,
  signalSet: string,
  { engines, operationsMax }: Abilities = { engines: ['dense', 'tfjs'], operationsMax: Infinity },
): void {
  const model = `Model ${name} ${version}`;
  const files = Object.values(targets);
  const other = files.find(({ custom }) => custom.signalSet !== signalSet);
  if (other !== undefined)
    throw new CardanError(
      'SIGNAL_SET_MISMATCH',
      `${model} is for the signal set ${String(other.custom.signalSet)}; this car sends ${signalSet}.`,
    );
  const { engine, features, operations } = targets['manifest.json'].custom;
  if (typeof engine === 'string' && !engines.includes(engine))
    throw new RefusedModelError(
      'MODEL_ENGINE_UNSUPPORTED',
      `${model} needs the engine "${engine}"; this car has ${engines.join(', ')} (docs/on-board-scoring.md says how to add one).`,
    );
  if (typeof features === 'number' && features > FEATURE_SCHEMA)
    throw new RefusedModelError(
      'MODEL_FEATURES_UNSUPPORTED',
      `${model} needs features of version ${features}; this agent computes those up to ${FEATURE_SCHEMA}. Update the agent first.`,
    );
  const bytes = files.reduce((sum, { length }) => sum + length, 0);
  if (bytes > MODEL_BYTES_MAX)
    throw new RefusedModelError(
      'MODEL_TOO_LARGE',
      `${model} has ${bytes} bytes; at most ${MODEL_BYTES_MAX} fit.`,
    );
  if (typeof operations === 'number' && operations > operationsMax)
    throw new RefusedModelError(
      'MODEL_TOO_LARGE',
      `${model} takes ${operations} multiply-adds a row; in the time that a row may take there are at most ${operationsMax}.`,
    );
}
