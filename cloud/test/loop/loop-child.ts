/** A loop in a process of its own, for a test that kills it: `LOG DIR`. Prints a line after each look. */
import { SqliteEventLog } from '@cardan/shared/event-log';
import { LoopService } from '../../src/loop/loop-service.ts';
import { RegistryClient } from '../../src/registry-client.ts';

const [path = '', dir = ''] = process.argv.slice(2);
const log = await SqliteEventLog.open({ path });
const loop = await LoopService.open({
  log,
  registry: new RegistryClient('http://127.0.0.1:1'),
  dir,
  policy: { mode: 'ask', growth: 1000, afterDays: 36_500 },
  periodMs: null,
  onProblem: (error) => {
    throw error;
  },
});
for (;;) {
  await loop.look();
  console.log('looked');
  await new Promise((resolve) => setImmediate(resolve));
}
