import protobuf from 'protobufjs/light.js';
import { CardanError, messageOf } from '@cardan/shared';

/**
 * The part of ONNX that a model of Cardan needs. Names and numbers of the fields are those of the ONNX
 * specification (onnx/onnx.proto, https://onnx.ai/onnx/repo-docs/IR.html); what is not named here is passed over.
 *
 *   ModelProto           1 irVersion, 2 producerName, 3 producerVersion, 7 graph, 8 opsetImport, 14 metadataProps,
 *                        25 functions
 *   GraphProto           1 node, 2 name, 5 initializer, 11 input, 12 output, 15 sparseInitializer
 *   NodeProto            1 input, 2 output, 3 name, 4 opType, 5 attribute, 7 domain
 *   AttributeProto       1 name, 2 f, 3 i, 4 s, 5 t, 7 floats, 8 ints, 20 type
 *   TensorProto          1 dims, 2 dataType, 4 floatData, 5 int32Data, 7 int64Data, 8 name, 9 rawData, 10 doubleData,
 *                        13 externalData, 14 dataLocation
 *   ValueInfoProto       1 name, 2 type: TypeProto 1 tensorType: 1 elemType, 2 shape: 1 dim: 1 dimValue, 2 dimParam
 */
export interface OnnxModel {
  irVersion: number;
  producerName: string;
  producerVersion: string;
  graph: OnnxGraph;
  opsetImport: { domain: string; version: number }[];
  metadataProps: { key: string; value: string }[];
  /** Operators that the file brings along; only how many there are is of interest. */
  functions: unknown[];
}

export interface OnnxGraph {
  name: string;
  node: OnnxNode[];
  initializer: OnnxTensor[];
  sparseInitializer: unknown[];
  input: OnnxValue[];
  output: OnnxValue[];
}

export interface OnnxNode {
  input: string[];
  output: string[];
  name: string;
  opType: string;
  domain: string;
  attribute: OnnxAttribute[];
}

export interface OnnxAttribute {
  name: string;
  type: number;
  f?: number;
  i?: number;
  s?: Uint8Array;
  t?: OnnxTensor | null;
  floats?: number[];
  ints?: number[];
}

export interface OnnxTensor {
  name: string;
  dims: number[];
  dataType: number;
  floatData?: number[];
  int32Data?: number[];
  int64Data?: number[];
  doubleData?: number[];
  rawData?: Uint8Array;
  externalData?: { key: string; value: string }[];
  dataLocation?: number;
}

export interface OnnxValue {
  name: string;
  type: {
    tensorType: {
      elemType: number;
      shape: { dim: { dimValue?: number; dimParam?: string }[] } | null;
    } | null;
  } | null;
}

/** `TensorProto.DataType`. */
export const FLOAT = 1;
export const INT32 = 6;
export const INT64 = 7;
export const DOUBLE = 11;
/** `AttributeProto.AttributeType`. */
export const ATTRIBUTE = { float: 1, int: 2, string: 3, floats: 6, ints: 7 } as const;

const one = (type: string, id: number) => ({ type, id });
const many = (type: string, id: number) => ({ rule: 'repeated', type, id });
const message = (fields: Record<string, { type: string; id: number }>) => ({ fields });

const MODEL = protobuf.Root.fromJSON({
  nested: {
    Model: message({
      irVersion: one('int64', 1),
      producerName: one('string', 2),
      producerVersion: one('string', 3),
      graph: one('Graph', 7),
      opsetImport: many('OperatorSet', 8),
      metadataProps: many('Entry', 14),
      functions: many('bytes', 25),
    }),
    Graph: message({
      node: many('Node', 1),
      name: one('string', 2),
      initializer: many('Tensor', 5),
      input: many('Value', 11),
      output: many('Value', 12),
      sparseInitializer: many('bytes', 15),
    }),
    Node: message({
      input: many('string', 1),
      output: many('string', 2),
      name: one('string', 3),
      opType: one('string', 4),
      attribute: many('Attribute', 5),
      domain: one('string', 7),
    }),
    Attribute: message({
      name: one('string', 1),
      f: one('float', 2),
      i: one('int64', 3),
      s: one('bytes', 4),
      t: one('Tensor', 5),
      floats: many('float', 7),
      ints: many('int64', 8),
      type: one('int32', 20),
    }),
    Tensor: message({
      dims: many('int64', 1),
      dataType: one('int32', 2),
      floatData: many('float', 4),
      int32Data: many('int32', 5),
      int64Data: many('int64', 7),
      name: one('string', 8),
      rawData: one('bytes', 9),
      doubleData: many('double', 10),
      externalData: many('Entry', 13),
      dataLocation: one('int32', 14),
    }),
    Value: message({ name: one('string', 1), type: one('Type', 2) }),
    Type: message({ tensorType: one('TensorType', 1) }),
    TensorType: message({ elemType: one('int32', 1), shape: one('Shape', 2) }),
    Shape: message({ dim: many('Dimension', 1) }),
    Dimension: message({ dimValue: one('int64', 1), dimParam: one('string', 2) }),
    OperatorSet: message({ domain: one('string', 1), version: one('int64', 2) }),
    Entry: message({ key: one('string', 1), value: one('string', 2) }),
  },
}).lookupType('Model');

/** As much as the registry stores of one file. */
const BYTES_MAX = 64 * 1024 * 1024;

/** Throws MODEL_INVALID for what is no ONNX file, or too large. */
export function decodeOnnx(bytes: Uint8Array): OnnxModel {
  if (bytes.length > BYTES_MAX)
    throw invalid(`the ONNX file has ${bytes.length} bytes; ${BYTES_MAX} are the most`);
  let model: OnnxModel;
  try {
    model = MODEL.toObject(MODEL.decode(bytes), { longs: Number, defaults: true }) as OnnxModel;
  } catch (cause) {
    throw invalid(`the file is no ONNX (${messageOf(cause)})`, cause);
  }
  // Protobuf says little about itself: bytes of another kind may pass for a message without known fields.
  if (model.irVersion < 1 || (model.graph as OnnxGraph | null) === null)
    throw invalid('the file is no ONNX: it has no graph');
  return model;
}

export function encodeOnnx(model: OnnxModel): Buffer {
  return Buffer.from(MODEL.encode(MODEL.fromObject(model)).finish());
}

function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('MODEL_INVALID', `Not a usable model: ${why}.`, { cause });
}
