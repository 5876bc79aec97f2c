import { createHash } from 'node:crypto';
import {
  CardanError,
  loadModel,
  messageOf,
  parseManifest,
  Scorer,
  selfTestOf,
  selfTestRows,
  serializeManifest,
  signalSet,
  writeDense,
  type Model,
  type ModelManifest,
  type ModelRef,
  type SelfTest,
  type Signal,
} from '@cardan/shared';
import type { ModelFiles } from '../registry-client.ts';
import { HYPER_PARAMETERS } from '../trainer/hyper-parameters.ts';
import { modelName } from '../trainer/training.ts';
import type { ExternalFile } from './constant.ts';
import { readDenseGraph } from './dense-graph.ts';
import { checkFold, fold } from './fold.ts';
import { decodeOnnx } from './onnx-format.ts';

export interface ImportOptions {
  onnx: Uint8Array;
  /** Files beside the ONNX file, in which PyTorch puts the weights. */
  external: ExternalFile;
  /** As its trainer wrote it: JSON, with what docs/python.md says. */
  manifest: Uint8Array;
  /** Default: the manifest's, or that of all models of its signals. */
  name?: string;
  /** Asked when the manifest has no version of its own: the model's newest version in the registry. */
  newest: (name: string) => Promise<ModelRef | null>;
  /** Milliseconds since 1970. */
  now: number;
}

export interface Imported {
  files: ModelFiles;
  manifest: ModelManifest;
  /** Largest difference between the graph and the car's executor. */
  difference: number;
  /** Largest difference, relative beyond 1, of the scores that the manifest gave for its self-test; null: it gave none. */
  scoreDifference: number | null;
}

/** A silence of five rows, one a second, as in `fit`. */
const GAP_MS = 5000;
/** Most that a score may differ from what another program computed: its network is float32, and so are its sums. */
const SCORE_DIFFERENCE_MAX = 1e-5;

type Json = Record<string, unknown>;

/**
 * A dense network in ONNX, and what its trainer says of it → a model as any other. The manifest's scores of the self-test
 * rows, when it has some, must be what the car computes; then the car's own take their place.
 *
 * Throws ONNX_UNSUPPORTED, naming the node; MODEL_INVALID, naming the field; SELF_TEST_FAILED.
 */
export async function importModel(options: ImportOptions): Promise<Imported> {
  const onnx = decodeOnnx(options.onnx);
  const graph = readDenseGraph(onnx, options.external);
  const layers = fold(graph);
  const { modelJson, weights } = writeDense(layers);
  const producer = [onnx.producerName, onnx.producerVersion].filter((part) => part !== '').join(' ');
  const given = parseGiven(options.manifest);
  const columns = given.signalSet as Json | undefined;
  const set =
    Array.isArray(columns?.signals) && columns.id === undefined
      ? signalSet(columns.signals.map(signalOf))
      : columns;
  const id = typeof set?.id === 'string' ? set.id : '';
  const name = options.name ?? (typeof given.name === 'string' ? given.name : modelName(id));
  const parent = await options.newest(name);
  const lineage = given.lineage as Json | undefined;
  const manifest = parseManifest(
    json({
      schema: 1,
      createdAt: new Date(options.now).toISOString(),
      ...given,
      name,
      version: given.version ?? String(Number(parent?.version ?? 0) + 1),
      signalSet: set,
      engine: 'dense',
      features: withDefaults(given.features, { gapMs: GAP_MS, clip: HYPER_PARAMETERS.clip }),
      alarm: alarmOf(given.alarm),
      files: { 'model.json': fileRef(modelJson), 'weights.bin': fileRef(weights) },
      lineage: withDefaults(lineage, {
        topic: 'telemetry',
        eventOffsets: {},
        rowsExcluded: 0,
        duplicatesDropped: 0,
        seed: 0,
        codeVersion: producer === '' ? 'unknown' : producer,
        parent,
        ...(lineage === undefined
          ? {}
          : { hyperParameters: { ...(lineage.hyperParameters as Json), onnxSha256: sha256(options.onnx) } }),
      }),
      metrics: {
        ...(given.metrics as Json | undefined),
        multiply_adds: layers.reduce((sum, { kernel }) => sum + kernel.length, 0),
      },
    }),
  );
  const difference = checkFold(graph, layers, manifest.features.clip);
  const files = { model: modelJson, weights };
  const model = loadModel({ manifest: serializeManifest(manifest), ...files });
  const scoreDifference = manifest.selfTest === undefined ? null : compareScores(model, manifest.selfTest);
  manifest.selfTest = selfTestOf(model, manifest.selfTest?.seed ?? manifest.lineage.seed);
  return {
    files: { manifest: serializeManifest(manifest), ...files },
    manifest,
    difference,
    scoreDifference,
  };
}

function parseGiven(bytes: Uint8Array): Json {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalid(`the manifest is not JSON (${messageOf(cause)})`, cause);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('the manifest is not an object');
  return value as Json;
}

function signalOf(value: unknown): Signal {
  const { name, unit = '' } = (value ?? {}) as Json;
  if (typeof name !== 'string' || typeof unit !== 'string')
    throw invalid('manifest.signalSet.signals are not all {"name", "unit"}');
  return { name, unit };
}

/** What is missing stays missing, for the parser to name. */
function withDefaults(given: unknown, defaults: Json): unknown {
  if (typeof given !== 'object' || given === null) return given;
  const { hyperParameters, ...others } = defaults;
  return { ...others, ...given, ...(hyperParameters === undefined ? {} : { hyperParameters }) };
}

function alarmOf(given: unknown): unknown {
  const { raiseAfterRows, clearPart, clearAfterRows } = HYPER_PARAMETERS;
  const threshold = (given as Json | undefined)?.threshold;
  return withDefaults(given, {
    raiseAfterRows,
    clearAfterRows,
    ...(typeof threshold === 'number' ? { clearBelow: clearPart * threshold } : {}),
  });
}

/** Throws SELF_TEST_FAILED when the car does not come to the scores that the trainer came to. */
function compareScores(model: Model, { seed, scores }: SelfTest): number {
  const { times, values } = selfTestRows(model.manifest, seed, scores.length);
  const found = new Scorer(model)
    .pushRows(times, values, new Float32Array(times.length))
    .slice(-scores.length);
  let largest = 0;
  scores.forEach((expected, i) => {
    const difference = Math.abs(found[i]! - expected) / Math.max(1, expected);
    if (!(difference <= SCORE_DIFFERENCE_MAX))
      throw new CardanError(
        'SELF_TEST_FAILED',
        `The car scores ${found[i]} where the manifest's selfTest says ${expected} (score ${i + 1}). ` +
          'Compute features and score as docs/python.md says, or leave selfTest out.',
      );
    largest = Math.max(largest, difference);
  });
  return largest;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function fileRef(bytes: Uint8Array): { sha256: string; length: number } {
  return { sha256: sha256(bytes), length: bytes.length };
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('MODEL_INVALID', `Not a usable model: ${why}.`, { cause });
}
