import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CardanError,
  loadModel,
  messageOf,
  readGivenFile,
  replaceFile,
  systemCode,
  type Model,
} from '@cardan/shared';
import type { ModelFiles } from '../registry-client.ts';

const FILES = { model: 'model.json', weights: 'weights.bin', manifest: 'manifest.json' } as const;

/** Writes the three files of a model; the manifest last, as it says what the others must be. */
export async function writeModelFolder(path: string, files: ModelFiles): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    for (const file of ['model', 'weights', 'manifest'] as const)
      await replaceFile(join(path, FILES[file]), files[file]);
  } catch (cause) {
    throw notWritable(path, cause);
  }
}

/** Throws FILE_NOT_FOUND, MODEL_INVALID. */
export function readModelFolder(path: string): Model {
  const [manifest, model, weights] = (['manifest', 'model', 'weights'] as const).map((file) =>
    readGivenFile(join(path, FILES[file]), `the model file ${join(path, FILES[file])}`),
  );
  return loadModel({ manifest: manifest!, model: model!, weights: weights! });
}

/** What keeps a file or folder from being written, in words. */
export function notWritable(path: string, cause: unknown): CardanError {
  return new CardanError(
    'DATA_DIR_NOT_WRITABLE',
    `Cannot write ${path} (${systemCode(cause) ?? messageOf(cause)}): choose a place that can be written to.`,
    { cause },
  );
}
