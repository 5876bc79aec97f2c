import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import mqtt from 'mqtt';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { encodeTelemetry, type TelemetryBatch } from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { startMosquitto, type Mosquitto } from '../../ops/mosquitto/start-mosquitto.ts';
import { Bridge } from '../src/bridge.ts';
import { until } from './cars.ts';

/** What docs/wire-formats.md tells readers to type is typed here, at what a bridge has written into a real Kafka. */

const ROOT = resolve(import.meta.dirname, '../..');
const SECTION = /\n## Reading along\n([^]*?)\n## /.exec(
  readFileSync(join(ROOT, 'docs/wire-formats.md'), 'utf8'),
)![1]!;

/** The one block of code in the section that is in this language and has this word. */
function block(language: string, word: string): string {
  const all = [...SECTION.matchAll(/```(\w+)\n([^]*?)```/g)].filter(
    ([, of, text]) => of === language && text!.includes(word),
  );
  expect(all).toHaveLength(1);
  return all[0]![2]!;
}

/** Whether a program is here. In CI it must be. */
function has(what: string, command: string, args: string[]): boolean {
  const found = spawnSync(command, args).status === 0;
  if (!found && process.env.CI) throw new Error(`CI needs ${what}`);
  if (!found) console.log(`skipped: no ${what} here`);
  return found;
}
const KCAT = has('kcat (apt install kcat)', 'kcat', ['-V']);
const PROTOC = has('protoc (apt install protobuf-compiler)', 'protoc', ['--version']);
const PYTHON = has('Python with pip install confluent-kafka protobuf', 'python3', [
  '-c',
  'import confluent_kafka, google.protobuf',
]);

const BEGIN = Date.UTC(2026, 0, 1);
const rows = (part: Partial<TelemetryBatch> & Pick<TelemetryBatch, 'values'>): TelemetryBatch => ({
  signalSet: '0123456789abcdef',
  epoch: 7,
  firstSequence: 1,
  times: Float64Array.of(BEGIN, BEGIN + 1000),
  scores: new Float32Array(0),
  modelName: '',
  modelVersion: '',
  ...part,
});
/** Values that a float does not hold exactly, one that was not seen, and the largest epoch. */
const VAN = rows({
  values: Float32Array.of(13.9, 90.5, -0.1, 14.1, Number.NaN, 1e-7),
  scores: Float32Array.of(0.25, Number.NaN),
  modelName: 'engine',
  modelVersion: '3',
});
const VAN_LATER = rows({
  firstSequence: 3,
  times: Float64Array.of(BEGIN + 2000, BEGIN + 3500, BEGIN + 3500),
  values: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9),
});
const TRUCK = rows({
  epoch: Number.MAX_SAFE_INTEGER,
  times: Float64Array.of(BEGIN + 60_000),
  values: Float32Array.of(3.4028234663852886e38, Number.POSITIVE_INFINITY, -0),
});

/** In this order. The last one is a copy, as after an acknowledgement that got lost. */
const SENT: [vehicle: string, batch: TelemetryBatch][] = [
  ['van-7', VAN],
  ['van-7', VAN_LATER],
  ['truck-1', TRUCK],
  ['van-7', VAN],
];

let mosquitto: Mosquitto;
let log: EventLog;
let bridge: Bridge;
let dir: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  const [brokers, prefix] = [inject('kafkaBrokers'), `along-${randomUUID().slice(0, 8)}.`];
  env = { ...process.env, KAFKA_BROKERS: brokers, CARDAN_TOPIC_PREFIX: prefix };
  dir = mkdtempSync(join(tmpdir(), 'read-along-'));
  symlinkSync(join(ROOT, 'shared'), join(dir, 'shared'));
  mosquitto = await startMosquitto();
  log = await openEventLog(`kafka:${brokers}`, { topicPrefix: prefix });
  bridge = await Bridge.start({ mqttUrl: mosquitto.url, log });
  const cars = await mqtt.connectAsync(mosquitto.url, { protocolVersion: 4 });
  for (const [vehicle, batch] of SENT)
    await cars.publishAsync(`cardan/v1/${vehicle}/telemetry`, encodeTelemetry(batch), { qos: 1 });
  await cars.endAsync();
  await until('all is in the log', () => bridge.counts.records === SENT.length);
});
afterAll(async () => {
  await bridge?.close(1000);
  await log?.close();
  await mosquitto?.stop();
  if (dir !== undefined) rmSync(dir, { recursive: true });
});

/** Runs a program where the doc's reader would: beside `shared/`. Gives what it printed. */
function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: dir, env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stderr}`);
  return stdout;
}

describe.runIf(KCAT)('kcat', () => {
  it('shows time, key, headers and size of what a bridge has written', () => {
    const shown = run('sh', '-c', block('sh', '%h'))
      .trimEnd()
      .split('\n')
      .map((line) => line.split(' '));
    const wanted = SENT.map(([vehicle, batch]): string[] => {
      const time = batch.times.at(-1)!;
      const { epoch, firstSequence: first } = batch;
      const headers = [
        'ce_specversion=1.0',
        'ce_type=io.cardan.telemetry',
        `ce_source=/vehicles/${vehicle}`,
        `ce_id=${epoch}-${first}-${first + batch.times.length - 1}`,
        `ce_time=${new Date(time).toISOString()}`,
        'content-type=application/protobuf',
      ];
      return [String(time), vehicle, headers.join(), String(encodeTelemetry(batch).length)];
    });
    expect(shown).toHaveLength(wanted.length);
    // Vehicles are in different partitions; the order is that of each.
    for (const name of ['van-7', 'truck-1'])
      expect(shown.filter(([, vehicle]) => vehicle === name)).toEqual(
        wanted.filter(([, vehicle]) => vehicle === name),
      );
  });
});

describe.runIf(KCAT && PROTOC)('protoc', () => {
  it('decodes the value of a record to the numbers that a car sent', () => {
    const fields = textFormat(run('sh', '-c', block('sh', '--decode')));
    const [, batch] = SENT.find(
      ([, { epoch, firstSequence }]) =>
        String(epoch) === fields.outbox_epoch![0] && String(firstSequence) === fields.first_sequence![0],
    )!;
    expect(fields.signal_set).toEqual([`"${batch.signalSet}"`]);
    expect(fields.start_time_ms).toEqual([String(batch.times[0])]);
    expect(fields.time_delta_ms).toEqual(deltas(batch).map(String));
    expect(fields.values!.map(float)).toEqual([...batch.values]);
    expect((fields.scores ?? []).map(float)).toEqual([...batch.scores]);
    expect(fields.model_name ?? []).toEqual(batch.modelName === '' ? [] : [`"${batch.modelName}"`]);
    expect(fields.model_version ?? []).toEqual(batch.modelVersion === '' ? [] : [`"${batch.modelVersion}"`]);
  });
});

describe.runIf(PROTOC && PYTHON)('Python', () => {
  it('reads every row once, copies dropped', () => {
    run('sh', '-c', block('sh', '--python_out'));
    const script = block('python', 'TelemetryBatch');
    expect(
      script
        .replace(/^(import|from) .*\n/gm, '')
        .trim()
        .split('\n'),
    ).toHaveLength(10);
    // Python's JSON has NaN and Infinity, JavaScript's has not: the floats go as text.
    const print =
      'print(json.dumps([[*row, time, *map(repr, values)] for row, (time, *values) in rows.items()]))';
    writeFileSync(join(dir, 'rows.py'), `${script}\nimport json\n${print}\n`);
    const read = JSON.parse(run('python3', 'rows.py')) as unknown[][];
    const wanted = [
      ...expectedRows('van-7', VAN),
      ...expectedRows('van-7', VAN_LATER),
      ...expectedRows('truck-1', TRUCK),
    ];
    const numbers = read.map(([vehicle, epoch, sequence, time, ...values]) => [
      ...[vehicle, epoch, sequence, time],
      ...values.map((value) => float(value as string)),
    ]);
    const byRow = (lines: unknown[][]) => new Map(lines.map((line) => [line.slice(0, 3).join(), line]));
    expect(numbers).toHaveLength(wanted.length);
    expect(byRow(numbers)).toEqual(byRow(wanted));
  });
});

function expectedRows(vehicle: string, batch: TelemetryBatch): unknown[][] {
  const width = batch.values.length / batch.times.length;
  return [...batch.times].map((time, i) => [
    ...[vehicle, batch.epoch, batch.firstSequence + i, time],
    ...batch.values.subarray(i * width, (i + 1) * width),
  ]);
}

function deltas({ times }: TelemetryBatch): number[] {
  return [...times].map((time, i) => time - (times[i - 1] ?? times[0]!));
}

/** `name: value` lines of protobuf's text format, by name. */
function textFormat(text: string): Record<string, string[]> {
  const fields: Record<string, string[]> = {};
  for (const line of text.trimEnd().split('\n')) {
    const [name, value] = line.split(': ') as [string, string];
    (fields[name] ??= []).push(value);
  }
  return fields;
}

/** What protoc and Python print of a float. */
function float(text: string): number {
  return Math.fround(Number(text.replace('nan', 'NaN').replace('inf', 'Infinity')));
}
