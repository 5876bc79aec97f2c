import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Aedes } from 'aedes';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  decodeTelemetry,
  parseCloudEvent,
  type CardanError,
  type CloudEvent,
  type SignalSet,
  type TelemetryBatch,
} from '@cardan/shared';
import { Agent, type AgentOptions } from '../src/agent.ts';
import { parseCampaign, type Campaign } from '../src/campaign/index.ts';
import { parseCandumpLine } from '../src/can/candump.ts';
import { parseDbc } from '../src/dbc/index.ts';
import { mapAllSignals } from '../src/vss.ts';

const DBC = parseDbc(
  Buffer.from(
    [
      'BO_ 256 Engine: 8 ECU',
      ' SG_ Rpm : 0|16@1+ (1,0) [0|0] "rpm" X',
      ' SG_ Coolant : 16|8@1+ (1,-40) [0|0] "degC" X',
      'BO_ 257 Brake: 8 ECU',
      ' SG_ Pressure : 0|8@1+ (1,0) [0|0] "bar" X',
    ].join('\n'),
  ),
  'car.dbc',
);
const MAP = mapAllSignals(DBC);
const NOON = Date.UTC(2026, 5, 1, 12);

const brakes = (version: string, change: object = {}) =>
  parseCampaign(
    JSON.stringify({
      schema: 1,
      id: 'brakes',
      name: 'Hard braking',
      version,
      vehicles: 'all',
      priority: 7,
      signals: ['Pressure', { name: 'Engine.Rpm', as: 'Vehicle.Engine.Speed' }],
      collection: { type: 'condition', when: 'Pressure > 80', beforeMs: 20, afterMs: 20 },
      ...change,
    }),
  );

let dir: string;
let aedes: Aedes;
let server: Server;
let cloud: MqttClient;
let agent: Agent;
let seen: { batches: TelemetryBatch[]; events: CloudEvent[]; reported: Record<string, unknown>[] };
let problems: CardanError[];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'campaigns-'));
  aedes = await Aedes.createBroker();
  server = createServer((socket) => {
    aedes.handle(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
  cloud = await mqtt.connectAsync(url, { protocolVersion: 4 });
  [seen, problems] = [{ batches: [], events: [], reported: [] }, []];
  // A bridge in its simplest form: what comes is taken, and acknowledged.
  cloud.on('message', (topic, payload) => {
    const ack = (kind: 'rows' | 'events', epoch: number, range: [number, number]) =>
      cloud.publish('cardan/v1/van-1/ack', JSON.stringify({ epoch, rows: [], events: [], [kind]: [range] }));
    if (topic.endsWith('/reported')) seen.reported.push(JSON.parse(payload.toString()) as never);
    else if (topic.endsWith('/event')) {
      const event = parseCloudEvent(payload);
      const [epoch, sequence] = event.id.split('-').map(Number);
      seen.events.push(event);
      ack('events', epoch!, [sequence!, sequence!]);
    } else {
      const batch = decodeTelemetry(payload);
      seen.batches.push(batch);
      ack('rows', batch.epoch, [batch.firstSequence, batch.firstSequence + batch.times.length - 1]);
    }
  });
  await cloud.subscribeAsync(['telemetry', 'event', 'reported'].map((end) => `cardan/v1/van-1/${end}`));
  start = async (options) => {
    agent = await Agent.start({
      vehicle: 'van-1',
      dataDir: dir,
      dbc: DBC,
      map: MAP,
      mqttUrl: url,
      now: () => NOON,
      onProblem: (problem) => problems.push(problem),
      ...options,
    });
  };
});
afterEach(async () => {
  await agent.stop();
  await cloud.endAsync(true);
  await new Promise<void>((resolve) => aedes.close(() => server.close(() => resolve())));
  rmSync(dir, { recursive: true });
});
let start: (options: Partial<AgentOptions>) => Promise<void>;

/** A frame every 10 ms; the brake is pressed at the tenth. */
function drive(from: number, frames: number) {
  for (let i = 0; i < frames; i++) {
    const time = ((NOON + (from + i) * 10) / 1000).toFixed(6);
    const pressed = from + i === 10;
    agent.accept(parseCandumpLine(`(${time}) can0 101#${pressed ? '64' : '0A'}00000000000000`));
    agent.accept(parseCandumpLine(`(${time}) can0 100#E803${pressed ? '78' : '64'}0000000000`));
    agent.accept(parseCandumpLine(`(${time}) can0 7E8#02`));
  }
}
const rowsOf = (campaign: string | undefined) =>
  seen.batches
    .filter((batch) => batch.campaign === campaign)
    .flatMap(({ times, values }) => {
      const width = values.length / times.length;
      return Array.from(times, (time, i) => [time - NOON, ...values.subarray(i * width, (i + 1) * width)]);
    });
const eventsOf = (type: string) => seen.events.filter((event) => event.type === type);

describe('a campaign in the car', () => {
  it('sends rows around its trigger under its name, says which columns they have, and that it triggered', async () => {
    await start({ campaigns: [brakes('1')] });
    drive(0, 20);
    await agent.drain();
    // Two frames with signals of it every 10 ms, 20 ms before and after the one at 100 ms.
    expect(rowsOf('brakes').map(([time]) => time)).toEqual([80, 80, 90, 90, 100, 100, 110, 110, 120, 120]);
    expect(rowsOf('brakes')[4]).toEqual([100, 100, 1000]);
    const { signalSet } = seen.batches.find(({ campaign }) => campaign === 'brakes')!;
    const sets = eventsOf('io.cardan.signal-set').map(({ data }) => data as SignalSet);
    expect(sets.find(({ id }) => id === signalSet)?.signals).toEqual([
      { name: 'Pressure', unit: 'bar' },
      { name: 'Vehicle.Engine.Speed', unit: 'rpm' },
    ]);
    expect(eventsOf('io.cardan.vehicle.campaign-triggered')).toMatchObject([
      { time: new Date(NOON + 100).toISOString(), data: { campaign: 'brakes', version: '1' } },
    ]);
    expect(problems).toEqual([]);
  });

  it('leaves the regular rows as they are', async () => {
    await start({ campaigns: [brakes('1')], rowPeriodMs: 100 });
    drive(0, 35);
    await agent.drain();
    expect(rowsOf(undefined)).toEqual([
      [100, 1000, 60, 10],
      [200, 1000, 60, 10],
      [300, 1000, 60, 10],
    ]);
    expect(new Set(seen.batches.map(({ epoch }) => epoch)).size).toBe(1);
  });

  it('begins, changes and ends while the car drives', async () => {
    await start({});
    const everyFrame = { collection: { type: 'time', periodMs: 10 } };
    drive(0, 5);
    agent.setCampaigns([brakes('1', everyFrame)]);
    drive(11, 5);
    agent.setCampaigns([brakes('2', { ...everyFrame, signals: ['Coolant'] })]);
    drive(21, 5);
    agent.setCampaigns([]);
    drive(31, 5);
    await agent.drain();
    expect(rowsOf('brakes')).toEqual([
      ...[120, 130, 140, 150].map((time) => [time, 10, 1000]),
      ...[220, 230, 240, 250].map((time) => [time, 60]),
    ]);
    expect(agent.campaignStatus).toEqual([]);
  });

  it('is only run by the cars that it is for, and what was given at the start goes before the cloud', async () => {
    const forDiesel = brakes('1', { vehicles: { ids: ['van-*'], attributes: { engine: 'diesel' } } });
    await start({ campaigns: [brakes('own')], attributes: { engine: 'petrol' } });
    agent.setCampaigns([brakes('2'), { ...forDiesel, id: 'diesel' }]);
    expect(agent.campaignStatus.map(({ campaign }) => [campaign.id, campaign.version])).toEqual([
      ['brakes', 'own'],
    ]);
  });

  it('says once which signals this car does not have, and leaves their columns empty', async () => {
    const other = brakes('1', { signals: ['Pressure', 'Turbo'] });
    await start({});
    agent.setCampaigns([other]);
    agent.setCampaigns([other, brakes('1', { id: 'second' })]);
    drive(0, 20);
    await agent.drain();
    expect(problems).toMatchObject([
      { code: 'CAMPAIGN_SIGNAL_UNKNOWN', message: expect.stringContaining('Turbo') as string },
    ]);
    expect(rowsOf('brakes')[0]?.[2]).toBeNaN();
    expect(rowsOf('brakes')[0]?.[1]).toBe(10);
  });

  it('sends the raw frames that it wants, also of ids that the DBC does not have', async () => {
    await start({ campaigns: [brakes('1', { rawFrames: { ids: ['7E8', '101'], maxPerSecond: 1000 } })] });
    drive(0, 20);
    await agent.drain();
    const [event] = eventsOf('io.cardan.vehicle.can-frames');
    const { candump, frames } = event!.data as { candump: string; frames: number };
    expect(
      candump
        .split('\n')
        .map(parseCandumpLine)
        .map(({ id, time }) => [id, time - NOON]),
    ).toEqual(
      [100, 110, 120].flatMap((time) => [
        [0x101, time],
        [0x7e8, time],
      ]),
    );
    expect(frames).toBe(6);
    expect(Date.parse(event!.time)).toBe(NOON + 100);
  });

  it('is refused as a whole when there are two of one id; those before go on', async () => {
    await start({ campaigns: [brakes('1')] });
    const twice: Campaign[] = [brakes('1', { id: 'x' }), brakes('2', { id: 'x' })];
    expect(() => agent.setCampaigns(twice)).toThrow(
      expect.objectContaining({ code: 'CAMPAIGN_INVALID' }) as Error,
    );
    drive(0, 20);
    await agent.drain();
    expect(rowsOf('brakes')).toHaveLength(10);
  });
});
