import {
  type Activation,
  ACTIVATIONS,
  DenseExecutor,
  type DenseLayer,
  linkedInputs,
  type Network,
  placesOf,
  placeWeights,
} from './dense.ts';

/** Units of a layer that are computed together: four vectors of two doubles, whose sums do not wait for each other. */
const BLOCK = 8;
const DOUBLE = 8;
const PAGE_BYTES = 65_536;

/**
 * A stack of dense layers in WebAssembly with SIMD: for who scores many rows, as the cloud's predictor. It gives the bits
 * of `DenseExecutor`: each sum has the same products in the same order, only those of two units stand side by side, and
 * `tanh` is the same products, sums and quotient. Where the computer has no SIMD it is the `DenseExecutor`.
 *
 * Each has a memory of its own, of which a process can have some thousands: one for a model, not one for a vehicle.
 */
export function simdNetwork(layers: readonly DenseLayer[]): Network {
  return wasm.validate(MODULE) ? new SimdNetwork(layers) : new DenseExecutor(layers);
}

/** What is used of it; the types of Node.js have it only with those of browsers. */
interface WasmApi {
  validate(module: Uint8Array): boolean;
  Memory: new (size: { initial: number }) => { buffer: ArrayBuffer };
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: Record<string, unknown> };
}
const wasm = (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly;

interface PlacedLayer {
  input: number;
  linked: number;
  weights: number;
  output: number;
  blocks: number;
  activation: number;
}

/** input, inputs per block (see `place`), weights, output (addresses), blocks, activation (its place in `ACTIVATIONS`) */
type Forward = (
  input: number,
  linked: number,
  weights: number,
  output: number,
  blocks: number,
  act: number,
) => void;

class SimdNetwork implements Network {
  readonly inputs: number;
  readonly outputs: number;
  private readonly source: readonly DenseLayer[];
  private readonly input: Float64Array;
  private readonly output: Float64Array;
  private readonly layers: PlacedLayer[] = [];
  private readonly forward: Forward;
  /** For rows that `linkedInputs` does not hold for. */
  private plain: DenseExecutor | undefined;

  constructor(layers: readonly DenseLayer[]) {
    this.source = layers;
    this.inputs = layers[0]!.inputs;
    const linked = linkedInputs(layers, BLOCK);
    const padded = (units: number) => Math.ceil(units / BLOCK) * BLOCK;
    // Constants and the input, then of each layer which inputs are linked, its weights and its outputs.
    let end = CONSTANTS.length + padded(this.inputs);
    for (const [i, { units }] of layers.entries())
      end += linked[i]!.length / 2 + placesOf(linked[i]!, BLOCK) + padded(units);
    const memory = new wasm.Memory({ initial: Math.ceil((end * DOUBLE) / PAGE_BYTES) });
    const all = new Float64Array(memory.buffer);
    const integers = new Int32Array(memory.buffer);
    all.set(CONSTANTS);
    let input = CONSTANTS.length;
    this.input = all.subarray(input, input + this.inputs);
    let at = input + padded(this.inputs);
    for (const [i, layer] of layers.entries()) {
      const blocks = linked[i]!.length / 2;
      integers.set(
        linked[i]!.map((k) => (input + k) * DOUBLE),
        at * 2,
      );
      const weights = at + blocks;
      const output = weights + placesOf(linked[i]!, BLOCK);
      placeWeights(layer, linked[i]!, BLOCK, all.subarray(weights, output));
      this.layers.push({
        input: input * DOUBLE,
        linked: at * DOUBLE,
        weights: weights * DOUBLE,
        output: output * DOUBLE,
        blocks,
        activation: ACTIVATIONS.indexOf(layer.activation),
      });
      input = output;
      at = output + blocks * BLOCK;
    }
    this.outputs = layers.at(-1)!.units;
    this.output = all.subarray(input, input + this.outputs);
    const { exports } = new wasm.Instance(new wasm.Module(MODULE), { m: { m: memory } });
    this.forward = exports.f as Forward;
  }

  run(row: ArrayLike<number>): Float64Array {
    const { input, forward } = this;
    let squares = 0;
    for (let i = 0; i < input.length; i++) {
      const value = row[i]!;
      input[i] = value;
      squares += value * value;
    }
    // Written so that NaN takes the long way.
    if (!(squares < Infinity)) {
      this.plain ??= new DenseExecutor(this.source);
      this.output.set(this.plain.run(row));
      return this.output;
    }
    for (const { input, linked, weights, output, blocks, activation } of this.layers)
      forward(input, linked, weights, output, blocks, activation);
    return this.output;
  }
}

/** Of `tanh` in dense.ts: the bounds, the coefficients above and below the line; then 0 and 1/2. At address 0. */
const CONSTANTS = Float64Array.of(
  ...[-7.90531110763549805, 7.90531110763549805],
  ...[-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-8],
  ...[1.48572235717979e-5, 6.37261928875436e-4, 4.89352455891786e-3],
  ...[1.19825839466702e-6, 1.18534705686654e-4, 2.268434632439e-3, 4.89352518554385e-3],
  ...[0, 0.5],
);
const [LOWER, UPPER, ABOVE, BELOW, ZERO, HALF] = [0, 1, 2, 9, 13, 14] as const;

/**
 * The module, put together from its instructions (WebAssembly Core Specification 2.0, section 5, "Binary Format"). In
 * words:
 *
 *   do {
 *     sum[0..8) = weights[0..8); weights += 8          biases
 *     p = linked[0]; end = linked[1]; linked += 2      addresses of inputs
 *     do { sum[k] += [p] · weights[k]; weights += 8; p += 1 } while (p < end)
 *     output[0..8) = activation(sum); output += 8
 *     blocks -= 1
 *   } while (blocks ≠ 0)
 */
const MODULE = assemble();

function assemble(): Uint8Array<ArrayBuffer> {
  const [LINKED, WEIGHTS, OUTPUT, BLOCKS, ACTIVATION, P, END, K] = [1, 2, 3, 4, 5, 6, 7, 8] as const;
  // Vectors: eight sums, the value that they share, and what `tanh` needs.
  const [SUM, VALUE, SQUARE, RATIO] = [9, 13, 14, 18] as const;
  const get = (local: number) => [0x20, local];
  const set = (local: number) => [0x21, local];
  const constant = (value: number) => [0x41, ...signed(value)];
  const simd = (code: number, ...rest: number[]) => [0xfd, ...unsigned(code), ...rest];
  const load = (address: number, offset: number) => [...get(address), ...simd(0x00, 3, ...unsigned(offset))];
  /** One of `CONSTANTS` → VALUE, twice. From memory: as a part of the code it takes several instructions. */
  const fixed = (place: number) => [
    ...[...constant(0), ...simd(0x0a, 3, ...unsigned(place * DOUBLE))],
    ...set(VALUE),
  ];
  const [MUL, ADD, DIV, MAX, PMIN, PMAX] = [0xf2, 0xf0, 0xf3, 0xf5, 0xf6, 0xf7].map((code) => simd(code)) as [
    number[],
    number[],
    number[],
    number[],
    number[],
    number[],
  ];
  const advance = (local: number, bytes: number) => [...get(local), ...constant(bytes), 0x6a, ...set(local)];
  const sums = [0, 1, 2, 3];
  /** For each of the four vectors of sums `code`, which leaves one vector, → `into` and following. */
  const each = (into: number, code: (k: number) => number[]) =>
    sums.flatMap((k) => [...code(k), ...set(into + k)]);

  /** Sums ← tanh of the sums, step by step as `tanh` in dense.ts, the four vectors side by side. */
  const tanh = () => {
    // In a loop, though there are few: in one piece, V8 puts the four chains one behind the other, and each waits for itself.
    const polynomial = (into: number, first: number, count: number) => [
      ...[...fixed(first), ...each(into, () => get(VALUE))],
      ...[...constant((first + 1) * DOUBLE), ...set(K), 0x03, 0x40],
      ...[...get(K), ...simd(0x0a, 3, 0), ...set(VALUE)],
      ...each(into, (k) => [...get(into + k), ...get(SQUARE + k), ...MUL, ...get(VALUE), ...ADD]),
      ...advance(K, DOUBLE),
      ...[...get(K), ...constant((first + count) * DOUBLE), 0x49, 0x0d, 0, 0x0b],
    ];
    return [
      // x > upper ? upper : x < lower ? lower : x; pmin(a, b) = b < a ? b : a, pmax(a, b) = a < b ? b : a
      ...[...fixed(UPPER), ...each(SUM, (k) => [...get(SUM + k), ...get(VALUE), ...PMIN])],
      ...[...fixed(LOWER), ...each(SUM, (k) => [...get(SUM + k), ...get(VALUE), ...PMAX])],
      ...each(SQUARE, (k) => [...get(SUM + k), ...get(SUM + k), ...MUL]),
      ...polynomial(RATIO, ABOVE, 7),
      ...each(RATIO, (k) => [...get(SUM + k), ...get(RATIO + k), ...MUL]),
      ...polynomial(SUM, BELOW, 4),
      ...each(SUM, (k) => [...get(RATIO + k), ...get(SUM + k), ...DIV]),
    ];
  };
  const apply: Record<Activation, () => number[]> = {
    linear: () => [],
    tanh,
    relu: () => [...fixed(ZERO), ...each(SUM, (k) => [...get(VALUE), ...get(SUM + k), ...MAX])],
    sigmoid: () => [
      ...[...fixed(HALF), ...each(SUM, (k) => [...get(VALUE), ...get(SUM + k), ...MUL])],
      ...tanh(),
      ...[
        ...fixed(HALF),
        ...each(SUM, (k) => [...get(VALUE), ...get(VALUE), ...get(SUM + k), ...MUL, ...ADD]),
      ],
    ],
  };

  const body = [
    // Three i32, thirteen vectors.
    ...[2, 3, 0x7f, 13, 0x7b],
    ...[0x03, 0x40],
    ...sums.flatMap((k) => [...load(WEIGHTS, 16 * k), ...set(SUM + k)]),
    ...advance(WEIGHTS, BLOCK * DOUBLE),
    ...[...get(LINKED), 0x28, 2, 0, ...set(P), ...get(LINKED), 0x28, 2, 4, ...set(END)],
    ...advance(LINKED, 8),
    ...[0x03, 0x40],
    ...[...get(P), ...simd(0x0a, 3, 0), ...set(VALUE)],
    ...each(SUM, (k) => [...get(SUM + k), ...get(VALUE), ...load(WEIGHTS, 16 * k), ...MUL, ...ADD]),
    ...advance(WEIGHTS, BLOCK * DOUBLE),
    ...advance(P, DOUBLE),
    ...[...get(P), ...get(END), 0x49, 0x0d, 0, 0x0b],
    ...ACTIVATIONS.flatMap((activation, place) =>
      activation === 'linear'
        ? []
        : [...[...get(ACTIVATION), ...constant(place), 0x46, 0x04, 0x40], ...apply[activation](), 0x0b],
    ),
    ...sums.flatMap((k) => [...get(OUTPUT), ...get(SUM + k), ...simd(0x0b, 3, ...unsigned(16 * k))]),
    ...advance(OUTPUT, BLOCK * DOUBLE),
    ...[...get(BLOCKS), ...constant(1), 0x6b, 0x22, BLOCKS, 0x0d, 0, 0x0b],
    0x0b,
  ];
  const section = (id: number, content: readonly number[]) => [id, ...unsigned(content.length), ...content];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    // One type (six i32, nothing back), the memory m.m, one function of the type, its name f.
    ...section(1, [1, 0x60, 6, ...Array<number>(6).fill(0x7f), 0]),
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, 1, 0x66, 0, 0]),
    ...section(10, [1, ...unsigned(body.length), ...body]),
  ]);
}

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): number[] {
  const low = value & 0x7f;
  const rest = value >> 7;
  return (rest === 0 && low < 0x40) || (rest === -1 && low >= 0x40) ? [low] : [low | 0x80, ...signed(rest)];
}
