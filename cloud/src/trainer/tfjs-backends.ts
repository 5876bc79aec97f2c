/** Where TensorFlow.js computes, in the order in which they are tried: its native library, WebAssembly, plain code. */
export const TFJS_BACKENDS = ['tensorflow', 'wasm', 'cpu'] as const;
export type TfjsBackend = (typeof TFJS_BACKENDS)[number];
