import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { CardanError, messageOf, type ModelRef } from '@cardan/shared';

/** Where the figures come from: they are read when somebody asks, so that counting costs nothing more. */
export interface AgentFigures {
  readonly frameCounts: { readonly received: number; readonly unknown: number; readonly malformed: number };
  readonly rowsSampled: number;
  readonly pendingRows: number;
  readonly outboxFileBytes: number;
  readonly dropped: { readonly rows: number; readonly events: number };
  /** NaN while no model scores. */
  readonly lastScore: number;
  readonly alarmActive: boolean;
  readonly connected: boolean;
  readonly activeModel: ModelRef | null;
  readonly shadowModel: ModelRef | null;
  /** NaN without a shadow. */
  readonly lastShadowScore: number;
  readonly scoringCounts: {
    readonly stopped: number;
    readonly shadowRows: number;
    readonly shadowAlarms: number;
  };
}

/** The figures as Prometheus reads them (text format 0.0.4). Names and meaning are in docs/agent-metrics.md. */
export function agentMetrics(agent: AgentFigures, framesDropped: number): string {
  const { frameCounts, dropped, activeModel, shadowModel, scoringCounts } = agent;
  const { user, system } = process.cpuUsage();
  const lines: string[] = [];
  const add = (type: 'counter' | 'gauge', name: string, help: string, value: number, labels = '') => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, `${name}${labels} ${number(value)}`);
  };
  add('counter', 'cardan_agent_frames_total', 'CAN frames received', frameCounts.received);
  add(
    'counter',
    'cardan_agent_frames_unknown_total',
    'Frames that the DBC does not know',
    frameCounts.unknown,
  );
  add('counter', 'cardan_agent_frames_malformed_total', 'What was no CAN frame', frameCounts.malformed);
  add('counter', 'cardan_agent_frames_dropped_total', 'Frames that the CAN source lost', framesDropped);
  add('counter', 'cardan_agent_rows_total', 'Rows sampled', agent.rowsSampled);
  add('gauge', 'cardan_agent_outbox_rows', 'Rows that the log does not have yet', agent.pendingRows);
  add('gauge', 'cardan_agent_outbox_file_bytes', 'Size of the outbox on disk', agent.outboxFileBytes);
  add(
    'counter',
    'cardan_agent_outbox_dropped_rows_total',
    'Rows lost since the outbox was made',
    dropped.rows,
  );
  add(
    'counter',
    'cardan_agent_outbox_dropped_events_total',
    'Events lost since the outbox was made',
    dropped.events,
  );
  add('gauge', 'cardan_agent_score', 'Score of the newest row, NaN without a model', agent.lastScore);
  add('gauge', 'cardan_agent_alarm_active', '1 while an alarm is raised', Number(agent.alarmActive));
  add('gauge', 'cardan_agent_connected', '1 while connected to the broker', Number(agent.connected));
  if (activeModel !== null)
    add('gauge', 'cardan_agent_model_info', 'The model that scores, always 1', 1, modelLabels(activeModel));
  add(
    'counter',
    'cardan_agent_models_stopped_total',
    'Models stopped because of how they ran',
    scoringCounts.stopped,
  );
  add(
    'counter',
    'cardan_agent_shadow_rows_total',
    'Rows that shadow models were given',
    scoringCounts.shadowRows,
  );
  add(
    'counter',
    'cardan_agent_shadow_alarms_total',
    'Alarms that shadow models would have raised',
    scoringCounts.shadowAlarms,
  );
  add(
    'gauge',
    'cardan_agent_shadow_score',
    'Score of the shadow model for the newest row, NaN without one',
    agent.lastShadowScore,
  );
  if (shadowModel !== null)
    add(
      'gauge',
      'cardan_agent_shadow_model_info',
      'The model that scores silently, always 1',
      1,
      modelLabels(shadowModel),
    );
  add('gauge', 'process_resident_memory_bytes', 'Memory in RAM', process.memoryUsage.rss());
  add('counter', 'process_cpu_seconds_total', 'CPU used, user and system', (user + system) / 1e6);
  return `${lines.join('\n')}\n`;
}

function modelLabels({ name, version }: ModelRef): string {
  return `{name="${escaped(name)}",version="${escaped(version)}"}`;
}

function number(value: number): string {
  return Number.isNaN(value) ? 'NaN' : String(value);
}

function escaped(label: string): string {
  return label.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/**
 * Serves /metrics on loopback: what reads it runs in the car, and nobody else on the car's network gets in.
 *
 * @throws CardanError PORT_IN_USE
 */
export async function serveMetrics(port: number, text: () => string): Promise<Server> {
  const server = createServer({ requestTimeout: 5000 }, (request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404).end('Not found. There is /metrics.\n');
      return;
    }
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text());
  });
  // A few readers at most; each further connection is closed at once.
  server.maxConnections = 16;
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new CardanError(
      'PORT_IN_USE',
      `Cannot serve metrics on 127.0.0.1:${port} (${messageOf(cause)}). Choose another --metrics-port.`,
      { cause },
    );
  }
  return server.unref();
}
