// A learner in a process of its own, to be killed: argv are the log, the learner's file and the records per transaction.
import { SqliteEventLog } from '@cardan/shared/event-log';
import { Learner } from '../../src/learner/learner.ts';

const [logPath, path, records] = process.argv.slice(2) as [string, string, string];
const log = await SqliteEventLog.open({ path: logPath });
const learner = await Learner.start({
  log,
  path,
  recordsMax: Number(records),
  states: { windowRows: 10 },
  onProblem: (error) => process.stderr.write(`${error.code}: ${error.message}\n`),
});
process.send?.('learning');
await learner.caughtUp();
await learner.close();
await log.close();
process.disconnect();
