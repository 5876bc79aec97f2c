import { afterEach, describe, expect, it } from 'vitest';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { agentMetrics, serveMetrics, type AgentFigures } from '../src/agent-metrics.ts';

const FIGURES: AgentFigures = {
  frameCounts: { received: 4000, unknown: 7, malformed: 1 },
  rowsSampled: 12,
  pendingRows: 3,
  outboxFileBytes: 40_960,
  dropped: { rows: 0, events: 2 },
  lastScore: 0.25,
  alarmActive: true,
  connected: false,
  activeModel: { name: 'car "A"', version: '3' },
  shadowModel: { name: 'car "A"', version: '4' },
  lastShadowScore: 0.5,
  scoringCounts: { stopped: 1, shadowRows: 12, shadowAlarms: 2 },
};

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

describe('metrics of the agent', () => {
  it('has each figure once, with help and type before it', () => {
    const lines = agentMetrics(FIGURES, 5).trimEnd().split('\n');
    const names = new Set<string>();
    for (let i = 0; i < lines.length; i += 3) {
      const [help, type, sample] = lines.slice(i, i + 3) as [string, string, string];
      const name = /^[a-z_]+/.exec(sample)![0];
      expect(help).toMatch(new RegExp(`^# HELP ${name} \\S`));
      expect(type).toBe(`# TYPE ${name} ${name.endsWith('_total') ? 'counter' : 'gauge'}`);
      expect(names.has(name)).toBe(false);
      names.add(name);
    }
    expect(lines).toContain('cardan_agent_frames_total 4000');
    expect(lines).toContain('cardan_agent_frames_dropped_total 5');
    expect(lines).toContain('cardan_agent_alarm_active 1');
    expect(lines).toContain('cardan_agent_connected 0');
    expect(lines).toContain('cardan_agent_model_info{name="car \\"A\\"",version="3"} 1');
    expect(lines).toContain('cardan_agent_models_stopped_total 1');
    expect(lines).toContain('cardan_agent_shadow_rows_total 12');
    expect(lines).toContain('cardan_agent_shadow_alarms_total 2');
    expect(lines).toContain('cardan_agent_shadow_score 0.5');
    expect(lines).toContain('cardan_agent_shadow_model_info{name="car \\"A\\"",version="4"} 1');
  });

  it('has no model and NaN as the score before a model is there', () => {
    const text = agentMetrics({ ...FIGURES, activeModel: null, shadowModel: null, lastScore: Number.NaN }, 0);
    expect(text).toContain('\ncardan_agent_score NaN\n');
    expect(text).not.toContain('model_info');
  });

  it('is served on loopback at /metrics only; a port in use is a plain error', async () => {
    const server = await serveMetrics(0, () => 'cardan 1\n');
    servers.push(server);
    const { port, address } = server.address() as AddressInfo;
    expect(address).toBe('127.0.0.1');
    const response = await fetch(`http://127.0.0.1:${port}/metrics`);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(await response.text()).toBe('cardan 1\n');
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(404);
    await expect(serveMetrics(port, () => '')).rejects.toMatchObject({ code: 'PORT_IN_USE' });
  });
});
