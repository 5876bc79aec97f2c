import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  cloudEvent,
  encodeScores,
  encodeTelemetry,
  eventToRecord,
  signalSet,
  type EventData,
  type EventType,
  type ModelManifest,
  type VehicleReported,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog, type LogRecord, type NewRecord } from '@cardan/shared/event-log';

/** A time for tests: 2026-01-01 12:00 UTC. */
export const NOON = Date.UTC(2026, 0, 1, 12);
export const SIGNALS = signalSet([
  { name: 'Vehicle.Speed', unit: 'km/h' },
  { name: 'Vehicle.Chassis.Axle.Row1.Wheel.Left.Tire.Pressure', unit: 'kPa' },
  { name: 'Vehicle.Chassis.Axle.Row1.Wheel.Right.Tire.Pressure', unit: 'kPa' },
]);
export const MODEL = `anomaly-${SIGNALS.id}`;

export interface Rows {
  vehicle: string;
  first?: number;
  epoch?: number;
  /** Of the first row; a row a second. */
  time?: number;
  /** One row per entry, all signals. */
  values?: number[][];
  scores?: number[];
  version?: string;
  set?: string;
  campaign?: string;
}

/** Rows of one vehicle as a record of `telemetry`. */
export function telemetry(rows: Rows): NewRecord {
  const { vehicle, first = 0, epoch = 1, time = NOON, scores = [], version = '' } = rows;
  const values =
    rows.values ?? Array.from({ length: Math.max(scores.length, 1) }, (_, i) => [50 + i, 230, 231]);
  return {
    key: vehicle,
    timestamp: time,
    value: encodeTelemetry({
      signalSet: rows.set ?? SIGNALS.id,
      epoch,
      firstSequence: first,
      times: times(time, values.length),
      values: Float32Array.from(values.flat()),
      scores: Float32Array.from(scores),
      modelName: version === '' ? '' : MODEL,
      modelVersion: version,
      ...(rows.campaign === undefined ? {} : { campaign: rows.campaign }),
    }),
  };
}

/** The cloud's scores as a record of `predictions`. */
export function prediction(rows: Rows & { scores: number[] }): NewRecord {
  const { vehicle, first = 0, epoch = 1, time = NOON, scores, version = '1' } = rows;
  return {
    key: vehicle,
    timestamp: time,
    value: encodeScores({
      epoch,
      firstSequence: first,
      times: times(time, scores.length),
      scores: Float32Array.from(scores),
      modelName: MODEL,
      modelVersion: version,
      threshold: 3,
    }),
  };
}

let ids = 0;
/** Any event as a record. With a sequence it is one that a car has sent. */
export function event<K extends EventType>(
  key: string,
  type: K,
  data: EventData[K],
  { time = NOON, sequence }: { time?: number; sequence?: number } = {},
): NewRecord {
  const made = cloudEvent(type, { source: `/vehicles/${key}`, id: `e-${ids++}`, time }, data);
  return eventToRecord(
    key,
    sequence === undefined ? made : { ...made, outboxepoch: '1', sequence: String(sequence) },
  );
}

export function anomaly(state: 'raised' | 'cleared', alarm: string): EventData['io.cardan.vehicle.anomaly'] {
  return {
    state,
    alarm,
    model: { name: MODEL, version: '1' },
    score: 6,
    threshold: 3,
    signals: [
      { name: 'Vehicle.Chassis.Axle.Row1.Wheel.Left.Tire.Pressure', part: 0.8 },
      { name: 'Vehicle.Speed', part: 0.2 },
    ],
  };
}

export function reported(version: string | null): VehicleReported {
  return {
    time: new Date(NOON).toISOString(),
    observedGeneration: 1,
    active: version === null ? null : { name: MODEL, version },
    phase: 'idle',
    error: null,
    signalSet: SIGNALS.id,
    agent: {
      version: '0.1.0',
      outboxRows: 7,
      dropped: { rows: 0, events: 0 },
      frames: { received: 1000, unknown: 1, malformed: 0 },
    },
  };
}

export function manifest(version: string, threshold = 3): ModelManifest {
  const inputs = SIGNALS.signals.length;
  return {
    schema: 1,
    name: MODEL,
    version,
    createdAt: new Date(NOON).toISOString(),
    signalSet: SIGNALS,
    engine: 'dense',
    features: {
      windowRows: 10,
      gapMs: 10_000,
      inputs: SIGNALS.signals.map((_, signal) => ({ signal, statistic: 'mean', center: 0, scale: 1 })),
      clip: 8,
    },
    score: {
      smoothingRows: 20,
      residualCenter: new Array<number>(inputs).fill(0),
      residualScale: new Array<number>(inputs).fill(1),
    },
    alarm: { threshold, raiseAfterRows: 5, clearBelow: threshold / 2, clearAfterRows: 30 },
    files: {
      'model.json': { sha256: 'a'.repeat(64), length: 100 },
      'weights.bin': { sha256: 'b'.repeat(64), length: 100 },
    },
    lineage: {
      topic: 'telemetry',
      offsets: { '0': { from: 0, to: 40 }, '1': { from: 5, to: 45 } },
      eventOffsets: { '0': { from: 0, to: 4 } },
      span: { from: new Date(NOON - 60_000).toISOString(), to: new Date(NOON).toISOString() },
      rows: 800,
      vehicles: 2,
      rowsExcluded: 0,
      duplicatesDropped: 0,
      seed: 1,
      hyperParameters: { epochs: 2 },
      codeVersion: '0.1.0',
      parent: null,
    },
    metrics: { loss: 0.1 },
  };
}

/** What publishing and deciding on a version puts into `models`. */
export function published(version: string, threshold?: number): NewRecord[] {
  return [
    event(MODEL, 'io.cardan.model.published', {
      manifest: manifest(version, threshold),
      manifestSha256: 'c'.repeat(64),
    }),
    event(MODEL, 'io.cardan.rollout.decided', {
      generation: Number(version),
      signalSet: SIGNALS.id,
      active: { name: MODEL, version },
    }),
  ];
}

/** New records as a log would hand them out. */
export function inLog(...records: NewRecord[]): LogRecord[] {
  return records.map(({ key, value, timestamp, headers = {} }, offset) => ({
    offset,
    key,
    value: value === null ? null : Buffer.from(value),
    timestamp,
    headers,
  }));
}

/** A log in a folder of its own, and how to be rid of both. */
export async function temporaryLog(): Promise<{ log: EventLog; remove: () => Promise<void> }> {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-monitor-'));
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  return {
    log,
    remove: async () => {
      await log.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function times(from: number, rows: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, i) => from + 1000 * i);
}
