import { CardanError } from '@cardan/shared';
import type { OnnxNode } from './onnx-format.ts';

/** ONNX that the car's dense executor cannot run, or layers that cannot be written as ONNX. */
export function unsupported(why: string): CardanError {
  return new CardanError('ONNX_UNSUPPORTED', `${why}.`);
}

/** `node "add_result" (Add)`, as far as the node has a name. */
export function nodeText({ name, opType, domain, output }: OnnxNode): string {
  const op = domain === '' || domain === 'ai.onnx' ? opType : `${domain}.${opType}`;
  return `node "${name === '' ? (output[0] ?? '') : name}" (${op})`;
}
