import { createRequire } from 'node:module';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs';
import { CardanError, messageOf, systemCode } from '@cardan/shared';
import type { TfjsBackend } from './tfjs-backends.ts';

/** An optional peer, see `npm run setup:tfjs-node`. */
const NATIVE_PACKAGE = '@tensorflow/tfjs-node';

/** Makes a backend ready to be used. Throws TFJS_UNAVAILABLE, saying why it cannot be had here. */
export async function openBackend(name: TfjsBackend): Promise<void> {
  try {
    if (name === 'tensorflow') requireNative();
    if (name === 'wasm') await import('@tensorflow/tfjs-backend-wasm');
    if (!(await tf.setBackend(name))) throw new Error('it did not start');
  } catch (cause) {
    const why =
      systemCode(cause) === 'MODULE_NOT_FOUND'
        ? `${NATIVE_PACKAGE} is not installed; npm run setup:tfjs-node does`
        : messageOf(cause);
    throw new CardanError('TFJS_UNAVAILABLE', `TensorFlow.js has no backend "${name}" here: ${why}.`, {
      cause,
    });
  }
  useBackend(name);
}

/**
 * Sets a backend that was opened, at once. To be called before each computation: the setting is one for the whole
 * process, and scorers of TensorFlow.js models may run in it, on the backend "cpu".
 */
export function useBackend(name: TfjsBackend): void {
  if (tf.getBackend() !== name) void tf.setBackend(name);
}

function requireNative(): void {
  // Node.js 23 took away what the package still asks for.
  const old = util as { isNullOrUndefined?: (value: unknown) => boolean };
  old.isNullOrUndefined ??= (value) => value === null || value === undefined;
  // Sums in the order of the operations, and not in one that the processor likes best.
  process.env.TF_ENABLE_ONEDNN_OPTS ??= '0';
  // What the library logs about the processor is no news.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  createRequire(import.meta.url)(NATIVE_PACKAGE);
}
