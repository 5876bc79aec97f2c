import { Findings } from './finding.ts';
import { runProgram, type Ran } from './program.ts';

/** What `ip -details -json link show` says of a CAN interface, as far as it is read here. */
interface Link {
  flags?: string[];
  linkinfo?: {
    info_kind?: string;
    info_data?: {
      state?: string;
      bittiming?: { bitrate?: number };
      berr_counter?: { tx?: number; rx?: number };
    };
  };
}

type Run = (program: string, args: readonly string[]) => Promise<Ran>;

/** The interface of a SocketCAN bus: is it there, up, at which bit rate, and does it get along with the bus? */
export async function checkInterface(findings: Findings, name: string, run: Run = runProgram): Promise<void> {
  await canUtils(findings, run);
  const what = `interface ${name}`;
  const ran = await run('ip', ['-details', '-json', 'link', 'show', name]);
  if (ran === 'missing')
    return findings.skip(what, 'there is no program "ip" here', 'Install iproute2 to see its state.');
  if (ran.status !== 0)
    return findings.fail(
      what,
      ran.err || 'it is not there',
      'Check the overlay or the driver of the CAN hat: "ip link" lists what is there, "dmesg | grep -i can" why not.',
    );
  let link: Link | undefined;
  try {
    [link] = JSON.parse(ran.out) as Link[];
  } catch {
    // An "ip" that does not know -json.
  }
  if (link === undefined)
    return findings.skip(what, 'this "ip" is too old to tell', 'Look at "ip -details link show" yourself.');
  judge(findings, what, name, link);
}

function judge(findings: Findings, what: string, name: string, link: Link): void {
  const kind = link.linkinfo?.info_kind;
  if (kind !== 'can' && kind !== 'vcan')
    return findings.fail(what, `it is no CAN interface (${kind ?? 'unknown kind'})`, 'Give another name.');
  if (link.flags?.includes('UP') !== true)
    return findings.fail(
      what,
      'it is down',
      kind === 'vcan'
        ? `ip link set ${name} up`
        : `ip link set ${name} up type can bitrate 500000 restart-ms 100, with the bit rate of the bus.`,
    );
  if (kind === 'vcan') return findings.ok(what, 'up, virtual');
  const { state = 'unknown', bittiming, berr_counter: errors } = link.linkinfo?.info_data ?? {};
  const text =
    `up, ${bittiming?.bitrate === undefined ? 'unknown bit rate' : `${bittiming.bitrate / 1000} kbit/s`}, ${state}` +
    (errors === undefined ? '' : `, error counters ${errors.tx ?? 0} sent, ${errors.rx ?? 0} received`);
  if (state === 'BUS-OFF' || state === 'STOPPED')
    findings.fail(
      what,
      text,
      'The controller has left the bus after too many errors: wrong bit rate, or wiring. Set restart-ms, so that it comes back.',
    );
  else if (state === 'ERROR-PASSIVE' || state === 'ERROR-WARNING')
    findings.warn(
      what,
      text,
      'Frames are damaged: wrong bit rate, no termination (120 ohms at both ends), or nobody else on the bus.',
    );
  else findings.ok(what, text);
}

async function canUtils(findings: Findings, run: Run): Promise<void> {
  const missing: string[] = [];
  // Without arguments both only print how they are used.
  for (const program of ['candump', 'cansend'])
    if ((await run(program, [])) === 'missing') missing.push(program);
  if (missing.length > 0)
    findings.fail('can-utils', `there is no ${missing.join(', no ')} here`, 'apt install can-utils');
  else findings.ok('can-utils', 'candump and cansend are here');
}
