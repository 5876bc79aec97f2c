/**
 * How fast generated DBC code decodes and encodes on one core. One JSON line per figure.
 *
 *   node --import tsx bench/dbc-decode.ts
 */
import { compileDecoder, compileEncoder, parseDbc } from '../agent/src/dbc/index.ts';

const MESSAGES = 24;
/** Enough that no frame stays in the innermost cache, few enough to make them at once. */
const FRAMES = 4096;
const ROUND_FRAMES = FRAMES * 250;
const ROUNDS = 5;

/** A powertrain bus as they are: 8 bytes, five signals of both byte orders, some of them multiplexed. */
function powertrain(): string {
  const lines = ['VERSION ""', 'BS_:', 'BU_: ECU'];
  for (let m = 0; m < MESSAGES; m++) {
    lines.push(`BO_ ${256 + m} Message${m}: 8 ECU`);
    const muxed = m % 6 === 5;
    lines.push(` SG_ Speed ${muxed ? 'M ' : ''}: 0|${muxed ? '2@1+ (1' : '16@1+ (0.01'},0) [0|0] "" ECU`);
    lines.push(` SG_ Torque ${muxed ? 'm1 ' : ''}: 23|12@0- (0.5,-800) [0|0] "Nm" ECU`);
    lines.push(` SG_ Temperature ${muxed ? 'm2 ' : ''}: 32|8@1+ (1,-40) [0|0] "degC" ECU`);
    lines.push(` SG_ Pressure : 40|10@1+ (0.1,0) [0|0] "kPa" ECU`);
    lines.push(` SG_ Counter : 56|4@1+ (1,0) [0|0] "" ECU`);
  }
  return lines.join('\n');
}

const dbc = parseDbc(powertrain());
const decoder = compileDecoder(dbc);
const encoder = compileEncoder(dbc);

let seed = 1;
const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;
const frames = Array.from({ length: FRAMES }, () => ({
  id: 256 + Math.floor(random() * MESSAGES),
  data: Uint8Array.from({ length: 8 }, () => Math.floor(random() * 256)),
}));

measure('dbc_decode', (count) => {
  for (let i = 0; i < count; i++) {
    const { id, data } = frames[i % FRAMES]!;
    decoder.find(id, false)!.decode(data);
  }
});

const encoders = dbc.messages.map((message) => encoder.message(message.name));
const inputs = encoders.map(({ message }) =>
  Float64Array.from(message.signals, (_, i) => [1, 120, 30, 55.5, 7][i] ?? 0),
);
const out = new Uint8Array(8);
measure('dbc_encode', (count) => {
  for (let i = 0; i < count; i++) encoders[i % MESSAGES]!.encode(inputs[i % MESSAGES]!, out);
});

/** Prints the median of several rounds behind one to warm up. */
function measure(bench: string, run: (count: number) => void): void {
  run(ROUND_FRAMES);
  const rounds = Array.from({ length: ROUNDS }, () => {
    const cpu = process.cpuUsage();
    const begun = performance.now();
    run(ROUND_FRAMES);
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { value: ROUND_FRAMES / seconds, cpu_ns_per_item: ((user + system) * 1000) / ROUND_FRAMES };
  });
  const { value, cpu_ns_per_item } = rounds.sort((a, b) => a.value - b.value)[ROUNDS >> 1]!;
  const figure = {
    bench,
    value: Math.round(value),
    unit: 'frames/s',
    cpu_ns_per_item: Math.round(cpu_ns_per_item * 10) / 10,
    node: process.version,
  };
  process.stdout.write(`${JSON.stringify(figure)}\n`);
}
