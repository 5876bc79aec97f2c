import { DOUBLE, FLOAT, INT32, INT64, type OnnxTensor } from './onnx-format.ts';
import { unsupported } from './unsupported.ts';

/** A tensor whose values are known before any row is. Doubles, whatever they were in the file. */
export interface Constant {
  dims: number[];
  values: Float64Array;
}

/** Bytes of a file beside the ONNX file, by the name that it gives. */
export type ExternalFile = (location: string) => Uint8Array;

/** More is above what any layer of a car may have: 4096 × 4096. */
const VALUES_MAX = 2 ** 24;

const WIDTH: Readonly<Record<number, number>> = { [FLOAT]: 4, [INT32]: 4, [INT64]: 8, [DOUBLE]: 8 };

/** Reads a tensor of float, double, int32 or int64. Throws ONNX_UNSUPPORTED, naming it. */
export function readConstant(tensor: OnnxTensor, external: ExternalFile): Constant {
  const { dims, dataType } = tensor;
  const what = `The tensor "${tensor.name}"`;
  const width = WIDTH[dataType];
  if (width === undefined)
    throw unsupported(`${what} has the type ${dataType} of ONNX; float (1) and double (11) can be read`);
  const size = dims.reduce((product, dim) => product * dim, 1);
  if (!(size >= 0 && size <= VALUES_MAX)) throw unsupported(`${what} has ${dims.join(' × ')} values`);
  const raw = tensor.dataLocation === 1 ? externalBytes(tensor, external) : tensor.rawData;
  const values =
    raw !== undefined && raw.length > 0 ? rawValues(raw, dataType, width) : Float64Array.from(typed(tensor));
  if (values.length !== size)
    throw unsupported(`${what} has ${values.length} values where its shape [${dims.join(', ')}] has ${size}`);
  return { dims, values };
}

function typed({ dataType, ...data }: OnnxTensor): number[] {
  if (dataType === FLOAT) return data.floatData ?? [];
  if (dataType === DOUBLE) return data.doubleData ?? [];
  return (dataType === INT32 ? data.int32Data : data.int64Data) ?? [];
}

/** Little-endian, whatever the machine. */
function rawValues(bytes: Uint8Array, dataType: number, width: number): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float64Array.from({ length: Math.floor(bytes.length / width) }, (_, i) => {
    if (dataType === FLOAT) return view.getFloat32(i * width, true);
    if (dataType === DOUBLE) return view.getFloat64(i * width, true);
    return dataType === INT32 ? view.getInt32(i * width, true) : Number(view.getBigInt64(i * width, true));
  });
}

function externalBytes({ name, externalData = [] }: OnnxTensor, external: ExternalFile): Uint8Array {
  const entry = (key: string) => externalData.find((one) => one.key === key)?.value;
  const location = entry('location') ?? '';
  // Of the ONNX file's own folder only: a file from elsewhere must not name others of this machine.
  if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]*$/.test(location))
    throw unsupported(`The tensor "${name}" is in the file "${location}", which is not beside the ONNX file`);
  const bytes = external(location);
  const offset = Number(entry('offset') ?? 0);
  const length = Number(entry('length') ?? bytes.length - offset);
  if (!(offset >= 0 && length >= 0 && offset + length <= bytes.length))
    throw unsupported(`The tensor "${name}" goes beyond the end of ${location}`);
  return bytes.subarray(offset, offset + length);
}
