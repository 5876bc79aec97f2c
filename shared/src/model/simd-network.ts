import { type Activation, ACTIVATIONS, DenseExecutor, type DenseLayer, type Network } from './dense.ts';

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
  inputEnd: number;
  weights: number;
  output: number;
  blocks: number;
  activation: number;
}

/** input, end of input, weights, output (addresses), blocks, activation (its place in `ACTIVATIONS`) */
type Forward = (
  input: number,
  end: number,
  weights: number,
  output: number,
  blocks: number,
  act: number,
) => void;

class SimdNetwork implements Network {
  readonly inputs: number;
  readonly outputs: number;
  private readonly input: Float64Array;
  private readonly output: Float64Array;
  private readonly layers: PlacedLayer[] = [];
  private readonly forward: Forward;

  constructor(layers: readonly DenseLayer[]) {
    this.inputs = layers[0]!.inputs;
    const padded = (units: number) => Math.ceil(units / BLOCK) * BLOCK;
    // The input, then of each layer its weights and its outputs.
    let end = padded(this.inputs);
    for (const { inputs, units } of layers) end += padded(units) * (inputs + 2);
    const memory = new wasm.Memory({ initial: Math.ceil((end * DOUBLE) / PAGE_BYTES) });
    const all = new Float64Array(memory.buffer);
    this.input = all.subarray(0, this.inputs);
    let [input, at] = [0, padded(this.inputs)];
    for (const layer of layers) {
      const { inputs, units, activation } = layer;
      const output = at + padded(units) * (inputs + 1);
      place(layer, all.subarray(at, output));
      this.layers.push({
        input: input * DOUBLE,
        inputEnd: (input + inputs) * DOUBLE,
        weights: at * DOUBLE,
        output: output * DOUBLE,
        blocks: padded(units) / BLOCK,
        activation: ACTIVATIONS.indexOf(activation),
      });
      input = output;
      at = output + padded(units);
    }
    this.outputs = layers.at(-1)!.units;
    this.output = all.subarray(input, input + this.outputs);
    const { exports } = new wasm.Instance(new wasm.Module(MODULE), { m: { m: memory } });
    this.forward = exports.f as Forward;
  }

  run(row: ArrayLike<number>): Float64Array {
    const { input, forward } = this;
    for (let i = 0; i < input.length; i++) input[i] = row[i]!;
    for (const { input, inputEnd, weights, output, blocks, activation } of this.layers)
      forward(input, inputEnd, weights, output, blocks, activation);
    return this.output;
  }
}

/** Per block of units its biases, then per input the weights of the block. */
function place({ inputs, units, kernel, bias }: DenseLayer, weights: Float64Array): void {
  for (let unit = 0; unit < units; unit++) {
    const at = Math.floor(unit / BLOCK) * BLOCK * (inputs + 1) + (unit % BLOCK);
    weights[at] = bias[unit]!;
    for (let i = 0; i < inputs; i++) weights[at + (i + 1) * BLOCK] = kernel[i * units + unit]!;
  }
}

/**
 * The module, put together from its instructions (WebAssembly Core Specification 2.0, section 5, "Binary Format"). In
 * words:
 *
 *   do {
 *     sum[0..8) = weights[0..8); weights += 8          biases
 *     p = input
 *     do { sum[k] += input[p] · weights[k]; weights += 8; p += 1 } while (p < end)
 *     output[0..8) = activation(sum); output += 8
 *     blocks -= 1
 *   } while (blocks ≠ 0)
 */
const MODULE = assemble();

function assemble(): Uint8Array<ArrayBuffer> {
  const [INPUT, END, WEIGHTS, OUTPUT, BLOCKS, ACTIVATION, P, SUM, VALUE, X, S, TOP, BOTTOM] = [
    0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15,
  ] as const;
  const get = (local: number) => [0x20, local];
  const set = (local: number) => [0x21, local];
  const constant = (value: number) => [0x41, ...signed(value)];
  const simd = (code: number, ...rest: number[]) => [0xfd, ...unsigned(code), ...rest];
  const load = (address: number, offset: number) => [...get(address), ...simd(0x00, 3, ...unsigned(offset))];
  const number = (value: number) => {
    const lane = new Uint8Array(Float64Array.of(value).buffer);
    return simd(0x0c, ...lane, ...lane);
  };
  const [MUL, ADD, DIV, MAX, LESS, GREATER, SELECT] = [0xf2, 0xf0, 0xf3, 0xf5, 0x49, 0x4a, 0x52].map((code) =>
    simd(code),
  ) as [number[], number[], number[], number[], number[], number[], number[]];
  const advance = (local: number, bytes: number) => [...get(local), ...constant(bytes), 0x6a, ...set(local)];
  const sums = [0, 1, 2, 3];

  /** X ← tanh(X), step by step as `tanh` in dense.ts. */
  const tanh = () => {
    const CLAMP = 7.90531110763549805;
    const polynomial = (into: number, [first, ...others]: readonly number[]) => [
      ...number(first!),
      ...others.flatMap((coefficient, i) => [
        ...(i === 0 ? [] : get(into)),
        ...get(S),
        ...MUL,
        ...number(coefficient),
        ...ADD,
        ...set(into),
      ]),
    ];
    return [
      // x > CLAMP ? CLAMP : x < −CLAMP ? −CLAMP : x
      ...[...number(-CLAMP), ...get(X), ...get(X), ...number(-CLAMP), ...LESS, ...SELECT, ...set(TOP)],
      ...[...number(CLAMP), ...get(TOP), ...get(X), ...number(CLAMP), ...GREATER, ...SELECT, ...set(X)],
      ...[...get(X), ...get(X), ...MUL, ...set(S)],
      ...polynomial(
        TOP,
        [
          -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-8,
          1.48572235717979e-5, 6.37261928875436e-4, 4.89352455891786e-3,
        ],
      ),
      ...polynomial(
        BOTTOM,
        [1.19825839466702e-6, 1.18534705686654e-4, 2.268434632439e-3, 4.89352518554385e-3],
      ),
      ...[...get(X), ...get(TOP), ...MUL, ...get(BOTTOM), ...DIV, ...set(X)],
    ];
  };
  const apply: Record<Activation, (sum: number) => number[]> = {
    linear: () => [],
    tanh: (sum) => [...get(sum), ...set(X), ...tanh(), ...get(X), ...set(sum)],
    relu: (sum) => [...number(0), ...get(sum), ...MAX, ...set(sum)],
    sigmoid: (sum) => [
      ...[...number(0.5), ...get(sum), ...MUL, ...set(X)],
      ...tanh(),
      ...[...number(0.5), ...number(0.5), ...get(X), ...MUL, ...ADD, ...set(sum)],
    ],
  };

  const body = [
    // One i32, nine vectors.
    ...[2, 1, 0x7f, 9, 0x7b],
    ...[0x03, 0x40],
    ...sums.flatMap((k) => [...load(WEIGHTS, 16 * k), ...set(SUM + k)]),
    ...advance(WEIGHTS, BLOCK * DOUBLE),
    ...[...get(INPUT), ...set(P)],
    ...[0x03, 0x40],
    ...[...get(P), ...simd(0x0a, 3, 0), ...set(VALUE)],
    ...sums.flatMap((k) => [
      ...[...get(SUM + k), ...get(VALUE), ...load(WEIGHTS, 16 * k), ...MUL, ...ADD, ...set(SUM + k)],
    ]),
    ...advance(WEIGHTS, BLOCK * DOUBLE),
    ...advance(P, DOUBLE),
    ...[...get(P), ...get(END), 0x49, 0x0d, 0, 0x0b],
    ...ACTIVATIONS.flatMap((activation, place) =>
      activation === 'linear'
        ? []
        : [
            ...[...get(ACTIVATION), ...constant(place), 0x46, 0x04, 0x40],
            ...sums.flatMap((k) => apply[activation](SUM + k)),
            0x0b,
          ],
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
