import { messageOf, type CardanError } from '@cardan/shared';
import type { CanFrame, CanSource } from '../can/can-frame.ts';
import { openSource, parseSource, type SourceAddress } from '../can/open-source.ts';
import { counted, Findings } from './finding.ts';
import type { Traffic } from './traffic.ts';
import { checkInterface } from './interface.ts';

/** A source that does not end when it is told to is left behind. */
const END_MS = 3000;

export interface BusOptions {
  /** As `--can` has it. */
  can: string;
  seconds: number;
  /** Every frame goes here. */
  traffic: Traffic;
}

/** Opens one bus as the agent does, but without filters, and listens for a while. */
export async function checkBus({ can, seconds, traffic }: BusOptions): Promise<Findings> {
  const findings = new Findings();
  const what = `bus ${can}`;
  let address: SourceAddress;
  const problems: CardanError[] = [];
  let malformed: string | undefined;
  let source: CanSource;
  try {
    address = parseSource(can);
    source = openSource([can], {
      speed: 0,
      onProblem: (error) => {
        if (problems.length < 100) problems.push(error);
      },
      onMalformed: (_path, line, message) => (malformed ??= `line ${line}: ${message}`),
    });
  } catch (error) {
    findings.fail(what, messageOf(error), 'See docs/can-sources.md.');
    return findings;
  }
  if (address.kind === 'socketcan') await checkInterface(findings, address.interface);
  const heard = await listen(source, seconds, traffic);
  const [problem] = problems;
  if (heard.error !== undefined || (heard.frames === 0 && problem !== undefined)) {
    findings.fail(what, heard.error ?? messageOf(problem), adviceFor(address));
    return findings;
  }
  if (heard.frames === 0) {
    if (address.kind === 'candump')
      findings.warn(what, 'no frame in it', 'Is it a log of candump -L? Others look alike.');
    else
      findings.warn(
        what,
        `silent for ${seconds} s`,
        'The usual causes: the ignition is off; another bit rate than the bus has; CAN high and low swapped, ' +
          'or no termination (60 ohms between them when all is off); a gateway that lets nothing through.',
      );
  } else if (address.kind === 'candump') {
    const span = (heard.last - heard.first) / 1000;
    const rate = span > 0 ? `, ${perSecond(heard.frames / span)} by its own times` : '';
    findings.ok(what, `${counted(heard.frames, 'frame')} of a recording${rate}`);
  } else findings.ok(what, `${perSecond(heard.frames / heard.seconds)} over ${seconds} s`);
  if (source.malformed > 0)
    findings.warn(
      `${what} lines`,
      `${source.malformed} that are no frames${malformed === undefined ? '' : `, the first at ${malformed}`}`,
      address.kind === 'slcan'
        ? 'Two programs read this port, or the adapter speaks another protocol.'
        : 'They are left out. Check what writes them.',
    );
  if ((source.dropped ?? 0) > 0)
    findings.warn(
      `${what} losses`,
      `${counted(source.dropped ?? 0, 'frame')} were lost before they came here`,
      'This computer is too slow or too busy. The agent needs fewer frames: it filters by the DBC.',
    );
  return findings;
}

interface Heard {
  frames: number;
  seconds: number;
  /** Times of the first and the last frame. */
  first: number;
  last: number;
  error?: string;
}

async function listen(source: CanSource, seconds: number, traffic: Traffic): Promise<Heard> {
  const heard: Heard = { frames: 0, seconds, first: 0, last: 0 };
  const stop = new AbortController();
  const begun = performance.now();
  const read = async () => {
    for await (const frames of source.frames(stop.signal)) for (const frame of frames) take(frame);
  };
  const take = (frame: CanFrame) => {
    if (heard.frames === 0) heard.first = frame.time;
    heard.frames++;
    heard.last = frame.time;
    traffic.add(frame);
  };
  let giveUp: NodeJS.Timeout | undefined;
  const listening = setTimeout(() => stop.abort(), 1000 * seconds);
  try {
    await Promise.race([
      read(),
      new Promise<void>((resolve) => (giveUp = setTimeout(resolve, 1000 * seconds + END_MS))),
    ]);
  } catch (error) {
    heard.error = messageOf(error);
  } finally {
    clearTimeout(listening);
    clearTimeout(giveUp);
    stop.abort();
  }
  heard.seconds = Math.min(seconds, (performance.now() - begun) / 1000);
  traffic.listened(heard.last > heard.first ? heard.last - heard.first : 0);
  return heard;
}

function adviceFor(address: SourceAddress): string {
  switch (address.kind) {
    case 'candump':
      return 'Record one with: candump -L can0 > FILE.';
    case 'slcan':
      return 'Check that the adapter is plugged in ("ls /dev/serial/by-id"), and that this user is in the group of the device (dialout).';
    case 'socketcan':
      return 'See the line of the interface; can-utils must be installed.';
    case 'udp':
      return 'Name the interface: udp:GROUP%eth0.';
  }
}

function perSecond(rate: number): string {
  return `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} frames/s`;
}
