export type { Branch, Dbc, DbcWarning, Message, Signal } from './dbc.ts';
export { parseDbc } from './parse.ts';
export { compileDecoder, type Decoder, type MessageDecoder } from './decoder.ts';
export { compileEncoder, type EncodeValue, type Encoder, type MessageEncoder } from './encoder.ts';
export { lintDbc, type LintCheck, type LintFinding } from './lint.ts';
