import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { decodeTelemetry, parseCloudEvent } from '@cardan/shared';
import { Agent } from '../src/agent.ts';
import { parseDbc } from '../src/dbc/index.ts';
import { mapAllSignals } from '../src/vss.ts';
import { FakeClock } from './outbox/fixture.ts';
import { Cloud } from './uplink/fixture.ts';

const dbc = parseDbc(Buffer.from('BO_ 1 Engine: 8 ECU\n SG_ Speed : 0|16@1+ (1,0) [0|0] "km/h" ECU\n'));
let cloud: Cloud;
let agent: Agent;
beforeEach(async () => {
  cloud = await Cloud.open(['telemetry', 'event']);
});
afterEach(async () => {
  await agent.stop();
  await cloud.close();
});

it('a car that wakes up in 1970 and is told the time after 40 s delivers these 40 s with their right times', async () => {
  const clock = new FakeClock();
  clock.monotonic = 3000;
  clock.wall = 3000;
  clock.isKnown = false;
  /** The right time when the car woke up. */
  const woken = Date.UTC(2026, 6, 1, 12);

  const rows: { time: number; sequence: number; speed: number }[] = [];
  const events: string[] = [];
  cloud.answer = ({ channel, payload }) => {
    const epoch = agent.epoch;
    if (channel === 'event') {
      const { time, sequence } = parseCloudEvent(payload);
      events.push(time);
      void cloud.acknowledge({ epoch, events: [[Number(sequence), Number(sequence)]] });
      return;
    }
    const { times, values, firstSequence } = decodeTelemetry(payload);
    times.forEach((time, i) => rows.push({ time, sequence: firstSequence + i, speed: values[i]! }));
    void cloud.acknowledge({ epoch, rows: [[firstSequence, firstSequence + times.length - 1]] });
  };

  agent = await Agent.start({
    vehicle: 'a',
    dataDir: join(cloud.dir, 'agent'),
    dbc,
    map: mapAllSignals(dbc),
    mqttUrl: cloud.url,
    outbox: { clock },
    uplink: { clock, batchMs: 1 },
    now: () => clock.wallMs(),
  });
  let second = 0;
  /** A frame a second, in the middle of it, stamped by the clock as the kernel does; its value says which one it is. */
  function drive(seconds: number) {
    for (let i = 0; i < seconds; i++) {
      clock.pass(500);
      const data = Buffer.alloc(8);
      data.writeUInt16LE(second++);
      agent.accept({ id: 1, extended: false, fd: false, data, time: clock.wall });
      clock.pass(500);
    }
    agent.flush();
  }
  drive(40);
  // Nothing has gone up: it would have had a wrong time. The broker is there, and the agent would end at once.
  await agent.drain();
  expect(cloud.seen).toEqual([]);

  clock.wall = woken + 40_000;
  clock.isKnown = true;
  drive(20);
  await agent.drain();

  // Each row holds the frame of the half second before it; that of the 41st second closes the one in which the clock was set.
  expect(rows.map(({ speed }) => speed)).toEqual(Array.from({ length: 59 }, (_, i) => i));
  expect(rows.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 59 }, (_, i) => i + 1));
  expect(rows.map(({ time }) => time)).toEqual(Array.from({ length: 59 }, (_, i) => woken + 1000 * (i + 1)));
  expect(new Set(events)).toEqual(new Set([new Date(woken).toISOString()]));
});
