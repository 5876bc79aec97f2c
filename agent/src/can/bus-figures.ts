import type { BusState, SourceCounters } from './can-frame.ts';

const STATES: readonly BusState[] = ['closed', 'open', 'error-warning', 'error-passive', 'bus-off'];

type Counters = Readonly<Record<string, SourceCounters>>;

/** The counters of each bus as Prometheus reads them (text format 0.0.4). */
export function busMetrics(buses: Counters): string {
  const entries = Object.entries(buses);
  if (entries.length === 0) return '';
  const lines: string[] = [];
  const add = (what: 'received' | 'malformed' | 'dropped' | 'errors', name: string, help: string) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} counter`);
    for (const [bus, counters] of entries) lines.push(`${name}{bus="${escaped(bus)}"} ${counters[what]}`);
  };
  add('received', 'cardan_agent_bus_frames_total', 'CAN frames received on this bus');
  add('malformed', 'cardan_agent_bus_malformed_total', 'What was no CAN frame on this bus');
  add('dropped', 'cardan_agent_bus_dropped_total', 'Frames of this bus that were lost, as far as is known');
  add('errors', 'cardan_agent_bus_errors_total', 'Error frames of the controller of this bus');
  const name = 'cardan_agent_bus_state';
  lines.push(`# HELP ${name} 1 for the state that the bus is in, 0 for the others`, `# TYPE ${name} gauge`);
  for (const [bus, { state }] of entries)
    for (const one of STATES)
      lines.push(`${name}{bus="${escaped(bus)}",state="${one}"} ${Number(one === state)}`);
  return `${lines.join('\n')}\n`;
}

/** One line for a person: what each bus gave and lost. */
export function busSummary(buses: Counters): string {
  return Object.entries(buses)
    .map(
      ([bus, { received, malformed, dropped, errors }]) =>
        `${bus}: ${received} frames, ${dropped} lost, ${malformed} malformed, ${errors} error frames`,
    )
    .join('; ');
}

function escaped(label: string): string {
  return label.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
