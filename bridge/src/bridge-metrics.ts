import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { LogTopic } from '@cardan/shared';

/** Counters since the start. */
export interface BridgeCounts {
  messages: number;
  /** Records that are in the log. */
  records: number;
  /** Rows of telemetry that are in the log; copies count again. */
  rows: number;
  deadLetters: number;
  /** Appends that failed and were tried again. */
  appendRetries: number;
}

/** Where the figures come from: they are read when somebody asks, so that counting costs nothing more. */
export interface MetricSources {
  messages: ReadonlyMap<string, number>;
  records: ReadonlyMap<string, number>;
  deadLetters: ReadonlyMap<string, number>;
  counts: BridgeCounts;
  queue: () => { bytes: number; messages: number };
  connected: () => boolean;
  ready: () => boolean;
}

/** Names and meaning are in docs/bridge.md. No label has a value per vehicle. */
export function bridgeMetrics(sources: MetricSources): {
  registry: Registry;
  appendSeconds: (topic: LogTopic, seconds: number) => void;
} {
  const registry = new Registry();
  const registers = [registry];
  const { counts } = sources;

  const labelled = (name: string, help: string, label: string, values: ReadonlyMap<string, number>) =>
    new Counter({
      name,
      help,
      registers,
      labelNames: [label],
      collect() {
        this.reset();
        for (const [value, count] of values) this.inc({ [label]: value }, count);
      },
    });
  const counter = (name: string, help: string, value: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });

  labelled('cardan_bridge_messages_total', 'MQTT messages received', 'channel', sources.messages);
  labelled('cardan_bridge_records_total', 'Records that are in the log', 'topic', sources.records);
  labelled(
    'cardan_bridge_dead_letters_total',
    'Messages that went to dead-letters',
    'code',
    sources.deadLetters,
  );
  counter('cardan_bridge_rows_total', 'Rows of telemetry that are in the log', () => counts.rows);
  counter(
    'cardan_bridge_append_retries_total',
    'Appends that failed and were tried again',
    () => counts.appendRetries,
  );
  gauge('cardan_bridge_queue_bytes', 'Bytes held that are not in the log yet', () => sources.queue().bytes);
  gauge(
    'cardan_bridge_queue_messages',
    'Messages held that are not in the log yet',
    () => sources.queue().messages,
  );
  gauge('cardan_bridge_connected', '1 when connected to the broker and subscribed', () =>
    Number(sources.connected()),
  );
  gauge('cardan_bridge_ready', '1 when /readyz says so', () => Number(sources.ready()));
  const seconds = new Histogram({
    name: 'cardan_bridge_append_seconds',
    help: 'Time until the log has taken a batch',
    registers,
    labelNames: ['topic'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  });
  return { registry, appendSeconds: (topic, value) => seconds.observe({ topic }, value) };
}
