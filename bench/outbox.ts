// Store and forward in the car: rows into the outbox, and out again after their acknowledgement; and what compression
// makes of a simulated car's batches.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import zlib from 'node:zlib';
import { compileDecoder, parseDbc } from '../agent/src/dbc/index.ts';
import { Outbox, type Compression } from '../agent/src/outbox.ts';
import { Sampler } from '../agent/src/sampler.ts';
import { compressed } from '../agent/src/uplink/compress.ts';
import { readVssMap } from '../agent/src/vss.ts';
import { encodeTelemetry } from '../shared/src/index.ts';
import { Car, CAR_DBC_PATH, CAR_VSS_PATH } from '../simulators/src/car.ts';

const ROWS = 200_000;
const SIGNALS = 25;
const context = { signalSet: 'bench', modelName: '', modelVersion: '' };
const values = new Float32Array(SIGNALS).fill(1.25);

for (const synchronous of ['NORMAL', 'FULL'] as const)
  for (const perCommit of [1, 100]) {
    const rows = perCommit === 1 ? ROWS / 10 : ROWS;
    const dir = mkdtempSync(join(tmpdir(), 'bench-outbox-'));
    const outbox = new Outbox({
      path: join(dir, 'outbox.db'),
      rowsMax: 10 * ROWS,
      eventsMax: 10,
      synchronous,
    });
    measure(`outbox_write_${synchronous.toLowerCase()}_${perCommit}_per_commit`, rows, () => {
      for (let row = 0; row < rows; row++) {
        outbox.addRow(row, values, 0.5, context);
        if (row % perCommit === perCommit - 1) outbox.flush();
      }
    });
    if (perCommit === 100 && synchronous === 'NORMAL')
      measure('outbox_read_and_acknowledge', rows, () => {
        for (let batch = outbox.oldestRows(1000); batch !== undefined; batch = outbox.oldestRows(1000))
          outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
      });
    outbox.close();
    rmSync(dir, { recursive: true });
  }

const drive = driveRows(3600);
for (const rows of [50, 1000])
  for (const how of ['none', 'gzip', 'zstd'] as const) {
    if (how === 'zstd' && !('zstdCompressSync' in zlib)) console.log('zstd: this Node.js has none');
    else measureCompression(how, rows);
  }

/** Rows of a simulated car, one a second, as its batches hold them. */
function driveRows(seconds: number): { times: Float64Array; values: Float32Array; signals: number } {
  const dbc = parseDbc(readFileSync(CAR_DBC_PATH), CAR_DBC_PATH);
  const map = readVssMap(CAR_VSS_PATH, dbc);
  const decoder = compileDecoder(dbc);
  const signals = map.set.signals.length;
  const times: number[] = [];
  const values: number[] = [];
  const sampler = new Sampler({
    signals,
    periodMs: 1000,
    staleMs: 5000,
    onRow: (time, row) => {
      times.push(time);
      values.push(...row);
    },
  });
  const columns = new Map(map.columns.map((of, column) => [`${of.message} ${of.dbcSignal}`, column]));
  const startTime = Date.UTC(2026, 0, 1);
  new Car({ id: 'bench', seed: 1, startTime }).advance(startTime + 1000 * seconds, (frame) => {
    sampler.advance(frame.time);
    const message = decoder.find(frame.id, frame.extended);
    if (message === undefined) return;
    message.decode(frame.data);
    message.message.signals.forEach((signal, i) => {
      const column = columns.get(`${message.message.name} ${signal.name}`);
      const slot = message.first + i;
      if (column !== undefined && decoder.present[slot] === 1)
        sampler.set(column, decoder.values[slot]!, frame.time);
    });
  });
  return { times: Float64Array.from(times), values: Float32Array.from(values), signals };
}

/** The hour in batches of so many rows. */
function measureCompression(how: Compression, rows: number): void {
  const { times, values, signals } = drive;
  const payloads: Buffer[] = [];
  for (let from = 0; from < times.length; from += rows)
    payloads.push(
      encodeTelemetry({
        ...{ signalSet: '0123456789abcdef', modelName: '', modelVersion: '', epoch: 2 ** 46 },
        firstSequence: 1 + from,
        times: times.subarray(from, from + rows),
        values: values.subarray(from * signals, (from + rows) * signals),
        scores: new Float32Array(0),
      }),
    );
  const round = () => payloads.reduce((sum, payload) => sum + compressed(payload, how).byteLength, 0);
  round();
  const cpu = process.cpuUsage();
  let bytes = 0;
  for (let i = 0; i < 5; i++) bytes = round();
  const { user, system } = process.cpuUsage(cpu);
  const figure = {
    bench: `uplink_${how}_${rows}_rows`,
    value: +(bytes / times.length).toFixed(1),
    unit: `bytes/row of ${signals} signals`,
    cpu_us_per_item: +((user + system) / (5 * times.length)).toFixed(2),
  };
  console.log(JSON.stringify({ ...figure, node: process.version }));
}

function measure(bench: string, items: number, work: () => void): void {
  const cpu = process.cpuUsage();
  const started = performance.now();
  work();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const figure = {
    bench,
    value: Math.round(items / seconds),
    unit: 'rows/s',
    cpu_us_per_item: +((user + system) / items).toFixed(3),
  };
  console.log(JSON.stringify({ ...figure, node: process.version }));
}
