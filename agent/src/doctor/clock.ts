import { existsSync } from 'node:fs';
import { messageOf } from '@cardan/shared';
import { dayText, Findings } from './finding.ts';
import { runProgram, type Ran } from './program.ts';

/** This version was made in this year: an earlier clock is wrong for sure. */
const BUILD_YEAR = 2026;
/** systemd-timesyncd makes this file when it has set the clock. */
const TIMESYNC_FILE = '/run/systemd/timesync/synchronized';
/** The Date header has whole seconds, and the way there takes time. */
const OFFSET_SECONDS_WARN = 5;
/** TUF's metadata and TLS certificates are judged by the clock; minutes are too much. */
const OFFSET_SECONDS_FAIL = 300;
const HTTP_MS = 5000;

export interface ClockOptions {
  now: () => number;
  registry?: string | undefined;
  fetch?: typeof fetch;
  run?: (program: string, args: readonly string[]) => Promise<Ran>;
  timesyncFile?: string;
}

/** Is the clock plausible, is it kept right, and does it agree with the registry's? */
export async function checkClock(options: ClockOptions): Promise<Findings> {
  const findings = new Findings();
  const now = options.now();
  if (new Date(now).getUTCFullYear() < BUILD_YEAR)
    findings.fail(
      'clock',
      `it says ${dayText(now)}, before this version was made`,
      'Set it (date -s), and give the computer a clock that runs without power (RTC), or the network at start.',
    );
  else findings.ok('clock', `it says ${new Date(now).toISOString()}`);
  await synchronised(findings, options);
  await offset(findings, options);
  return findings;
}

async function synchronised(findings: Findings, options: ClockOptions): Promise<void> {
  const { run = runProgram, timesyncFile = TIMESYNC_FILE } = options;
  const what = 'clock sync';
  const advice =
    'Give it the network and an NTP server: timedatectl set-ntp true, or chrony; in a car also gpsd. ' +
    'The agent corrects the times of this boot when the clock is set.';
  if (existsSync(timesyncFile)) return findings.ok(what, 'synchronised by systemd-timesyncd');
  const chrony = await run('chronyc', ['-n', 'tracking']);
  if (chrony !== 'missing' && chrony.status === 0) {
    const leap = /^Leap status\s*:\s*(.+)$/m.exec(chrony.out)?.[1]?.trim() ?? '';
    if (leap !== '' && leap !== 'Not synchronised') return findings.ok(what, 'synchronised by chrony');
    return findings.warn(what, 'chrony has not synchronised it', advice);
  }
  const timedatectl = await run('timedatectl', ['show', '-p', 'NTPSynchronized', '--value']);
  if (timedatectl !== 'missing' && timedatectl.status === 0) {
    if (timedatectl.out.trim() === 'yes') return findings.ok(what, 'synchronised, timedatectl says');
    return findings.warn(what, 'not synchronised, timedatectl says', advice);
  }
  findings.skip(
    what,
    'neither systemd-timesyncd, chronyc nor timedatectl tells here',
    'Install chrony or systemd-timesyncd if nothing else sets this clock.',
  );
}

async function offset(findings: Findings, options: ClockOptions): Promise<void> {
  const what = 'clock offset';
  const { registry, now } = options;
  if (registry === undefined)
    return findings.skip(what, 'without --registry there is no other clock to ask', 'Give --registry.');
  let date: number;
  const before = now();
  try {
    const response = await (options.fetch ?? fetch)(registry, {
      method: 'HEAD',
      redirect: 'manual',
      signal: AbortSignal.timeout(HTTP_MS),
    });
    date = Date.parse(response.headers.get('date') ?? '');
  } catch (error) {
    return findings.skip(what, `the registry does not tell: ${messageOf(error)}`, 'See the line "registry".');
  }
  if (Number.isNaN(date))
    return findings.skip(what, 'the registry sends no Date header', 'Nothing, if "clock sync" is ok.');
  // The header was made somewhere between, and its second had begun up to one second ago.
  const seconds = Math.round((date + 500 - (before + now()) / 2) / 1000);
  const text =
    seconds === 0
      ? 'the same second as the registry'
      : `${Math.abs(seconds)} s ${seconds > 0 ? 'behind' : 'ahead of'} the registry`;
  const advice = 'Set the clock here, or at the registry, whichever is wrong.';
  if (Math.abs(seconds) >= OFFSET_SECONDS_FAIL)
    findings.fail(what, `${text}: certificates and models are judged by a wrong time`, advice);
  else if (Math.abs(seconds) >= OFFSET_SECONDS_WARN) findings.warn(what, text, advice);
  else findings.ok(what, text);
}
