import { CardanError } from '@cardan/shared';
import { askedBus, readObdFile } from '../diagnostics/obd-file.ts';
import { counted, Findings } from './finding.ts';

/** The file of --obd, and whether its bus can be asked. Control units are not: that could disturb a workshop's tester. */
export function checkObd(path: string, can: readonly string[]): Findings {
  const findings = new Findings();
  try {
    const plan = readObdFile(path);
    const bus = can[askedBus(plan, can)];
    const codes = plan.troubleCodesMs === null ? 'no trouble codes' : 'trouble codes';
    findings.ok('obd', `${counted(plan.pids.length, 'PID')}, ${codes}, on ${bus}; nothing is asked now`);
  } catch (error) {
    if (!(error instanceof CardanError)) throw error;
    findings.fail('obd', error.message, 'See docs/diagnostics.md.');
  }
  return findings;
}
