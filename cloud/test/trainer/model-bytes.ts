import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseManifest } from '@cardan/shared';

/** All of a model's folder but for the time at which it was made. */
export function modelBytes(folder: string) {
  const read = (file: string) => readFileSync(join(folder, file));
  return {
    manifest: { ...parseManifest(read('manifest.json')), createdAt: '' },
    model: read('model.json').toString(),
    weights: read('weights.bin').toString('hex'),
  };
}
