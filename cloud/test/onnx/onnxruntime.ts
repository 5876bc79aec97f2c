/** The little that the tests use of onnxruntime-node; its own types are there only where it is installed. */
export interface Onnxruntime {
  InferenceSession: { create(bytes: Uint8Array, options?: object): Promise<Session> };
  Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => { data: Float32Array };
}
interface Session {
  inputNames: readonly string[];
  outputNames: readonly string[];
  run(
    feeds: Record<string, object>,
  ): Promise<Record<string, { data: Float32Array; dims: readonly number[] }>>;
}

/** No literal to the compiler, which would look for its types. */
const PACKAGE = 'onnxruntime-node' as string;

/** Not in the lock file, as it has 288 MB. In CI it must be here. */
export async function onnxruntime(): Promise<Onnxruntime | undefined> {
  try {
    const loaded = (await import(PACKAGE)) as Onnxruntime & { default?: Onnxruntime };
    return loaded.default ?? loaded;
  } catch (error) {
    if (process.env.CI)
      throw new Error('CI needs onnxruntime-node: npm run setup:onnxruntime', { cause: error });
    console.log('skipped: no onnxruntime-node here (npm run setup:onnxruntime)');
    return undefined;
  }
}

/** Runs rows through a model in ONNX of one input and one output. */
export async function runOnnx(
  runtime: Onnxruntime,
  bytes: Uint8Array,
  rows: Float32Array,
): Promise<Float32Array> {
  // Errors only: it warns of its own thread settings in a container.
  const session = await runtime.InferenceSession.create(bytes, { logSeverityLevel: 3, intraOpNumThreads: 1 });
  const width = (rows.length / ROWS) | 0;
  const [input] = session.inputNames;
  const tensor = new runtime.Tensor('float32', rows, [ROWS, width]);
  const result = await session.run({ [input!]: tensor });
  return result[session.outputNames[0]!]!.data;
}

/** Of every run. */
export const ROWS = 50;
