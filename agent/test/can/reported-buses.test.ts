import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VehicleReported } from '@cardan/shared';
import { expect, it, onTestFinished } from 'vitest';
import { Agent } from '../../src/agent.ts';
import { openSource } from '../../src/can/open-source.ts';
import { parseDbc } from '../../src/dbc/index.ts';
import { mapAllSignals } from '../../src/vss.ts';
import { Cloud } from '../uplink/fixture.ts';

const dbc = parseDbc(Buffer.from('BO_ 1 Engine: 8 ECU\n SG_ Speed : 0|16@1+ (1,0) [0|0] "km/h" ECU\n'));

it('what each bus gave and lost is in what the car says of itself', async () => {
  const cloud = await Cloud.open(['reported']);
  onTestFinished(() => cloud.close());
  const [engine, body] = ['engine.log', 'body.log'].map((name) => join(cloud.dir, name)) as [string, string];
  writeFileSync(engine, '(1.000000) can0 001#0100\n(1.100000) can0 001#0200\nnonsense\n');
  writeFileSync(body, '(1.000000) can1 002#00\n(1.000000) can1 20000040#0000000000000000\n');
  const agent = await Agent.start({
    vehicle: 'a',
    dataDir: join(cloud.dir, 'agent'),
    dbc,
    map: mapAllSignals(dbc),
    mqttUrl: cloud.url,
  });
  onTestFinished(() => agent.stop());
  await agent.play(
    openSource([`candump:${engine}`, `candump:${body}`], { speed: 0 }),
    new AbortController().signal,
  );
  for (;;) {
    const { buses } = (JSON.parse((await cloud.next()).payload.toString()) as VehicleReported).agent;
    if (buses === undefined) continue; // said before the buses were opened
    expect(buses).toEqual({
      [`candump:${engine}`]: { state: 'closed', received: 2, malformed: 1, dropped: 0, errors: 0 },
      [`candump:${body}`]: { state: 'closed', received: 1, malformed: 0, dropped: 0, errors: 1 },
    });
    return;
  }
});
