import type { Lineage, LogConnection, MqttConnection } from '@cardan/shared';
import type { RowAccount } from './account.ts';
import type { FaultKind } from './faults.ts';

/** What the demo can be told. */
export interface DemoOptions {
  vehicles: number;
  seed: number;
  speedup: number;
  /** Port of the page; 0 takes a free one. */
  port: number;
  /** Kept, and gone on with at the next start; undefined is a temporary folder that is removed at the end. */
  dataDir?: string;
  /** Faults to inject, one car each. */
  faults: FaultKind[];
  replay?: { path: string; dbcPath: string; vssPath?: string };
  /** A broker that is there already; default is an embedded one. `flags` are what child processes are given. */
  mqtt?: { url: string; connection: MqttConnection; flags: string[] };
  /** A Kafka that is there already; default is a log in a file. */
  kafka?: LogConnection & { flags: string[] };
  /** Stop by itself when the loop has closed twice. */
  once: boolean;
  /** With `once`: how long the loop may take, seconds. */
  secondsMax: number;
}

/** The line of JSON that `--once` prints. */
export interface DemoSummary {
  loop: 'closed' | 'open';
  /** Only when open: what did not come about. */
  why?: string;
  vehicles: number;
  rows: RowAccount;
  models: { name: string; version: string; trained_rows: number; lineage: Lineage; installed: number }[];
  faults: { injected: number; detected: number; median_delay_s: number | null };
  false_alarms_per_vehicle_hour: number;
  log: 'sqlite' | 'kafka';
  mqtt: string;
  seconds: { train: number; install: number; total: number };
}
