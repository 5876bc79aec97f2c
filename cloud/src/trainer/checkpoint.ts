import { readFileSync } from 'node:fs';
import { CardanError, messageOf, replaceFile, systemCode } from '@cardan/shared';
import type { OffsetRanges, TimeRange } from './log-span.ts';
import type { StreamPosition } from './streamed-fit.ts';

/** All that a training needs to go on: what it reads, pinned, and how far it has got. */
export interface Checkpoint {
  /** SHA-256 of the configuration and the span as they were given. */
  digest: string;
  signalSet: string;
  offsets: OffsetRanges;
  eventOffsets: OffsetRanges;
  times: TimeRange | undefined;
  /** Undefined before the first epoch. */
  position: StreamPosition | undefined;
}

const SCHEMA = 1;

/** Replaces the file: after a crash it is the old one or the new one. Throws DATA_DIR_NOT_WRITABLE. */
export async function writeCheckpoint(
  path: string,
  { position, times, ...pinned }: Checkpoint,
): Promise<void> {
  const text = JSON.stringify({
    schema: SCHEMA,
    ...pinned,
    times: times ?? null,
    position:
      position === undefined
        ? null
        : {
            ...position,
            state: { steps: position.state.steps, values: bytesOf(position.state.values) },
            best:
              position.best === undefined
                ? null
                : {
                    ...position.best,
                    files: {
                      modelJson: position.best.files.modelJson.toString('base64'),
                      weights: position.best.files.weights.toString('base64'),
                    },
                  },
          },
  });
  try {
    await replaceFile(path, text);
  } catch (cause) {
    throw new CardanError(
      'DATA_DIR_NOT_WRITABLE',
      `Cannot write the checkpoint ${path} (${systemCode(cause) ?? messageOf(cause)}). Choose another place with --checkpoint.`,
      { cause },
    );
  }
}

/** Throws FILE_NOT_FOUND, CHECKPOINT_UNUSABLE. */
export function readCheckpoint(path: string): Checkpoint {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new CardanError(
      'FILE_NOT_FOUND',
      `There is no checkpoint to go on from: cannot read ${path} (${systemCode(cause) ?? messageOf(cause)}). Leave --resume out to begin.`,
      { cause },
    );
  }
  try {
    const saved = JSON.parse(text) as Saved;
    if (saved.schema !== SCHEMA) throw new Error(`its schema is ${String(saved.schema)}`);
    const { digest, signalSet, offsets, eventOffsets, times, position } = saved;
    return {
      digest,
      signalSet,
      offsets,
      eventOffsets,
      times: times ?? undefined,
      position:
        position === null
          ? undefined
          : {
              ...position,
              state: { steps: position.state.steps, values: doublesOf(position.state.values) },
              best:
                position.best === null
                  ? undefined
                  : {
                      ...position.best,
                      files: {
                        modelJson: Buffer.from(position.best.files.modelJson, 'base64'),
                        weights: Buffer.from(position.best.files.weights, 'base64'),
                      },
                    },
            },
    };
  } catch (cause) {
    throw new CardanError(
      'CHECKPOINT_UNUSABLE',
      `${path} is no checkpoint of this version (${messageOf(cause)}). Leave --resume out to begin anew.`,
      { cause },
    );
  }
}

type Pinned = Omit<Checkpoint, 'position' | 'times'>;
interface Saved extends Pinned {
  schema: number;
  times: TimeRange | null;
  position:
    | (Omit<StreamPosition, 'state' | 'best'> & {
        state: { steps: number; values: string };
        best:
          | (Omit<NonNullable<StreamPosition['best']>, 'files'> & {
              files: { modelJson: string; weights: string };
            })
          | null;
      })
    | null;
}

function bytesOf(values: Float64Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64');
}

/** A copy is aligned. */
function doublesOf(base64: string): Float64Array {
  return new Float64Array(new Uint8Array(Buffer.from(base64, 'base64')).buffer);
}
