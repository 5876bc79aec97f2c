import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { CardanError, messageOf, systemCode } from '@cardan/shared';
import { stateAfter } from './bus-state.ts';
import type { BusState, CanBus, CanFrame } from './can-frame.ts';
import { CalmPipe } from './calm-pipe.ts';
import { parseCandump } from './candump.ts';
import type { KernelFilter } from './kernel-filters.ts';
import { reopening, type ReopenOptions } from './reopen.ts';

/** For the kernel's queue: about 10,000 frames. Beyond net.core.rmem_max only with the right CAP_NET_ADMIN. */
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
/** Longest line: 64 bytes of CAN FD take 170 characters. */
const LINE_CHARACTERS_MAX = 1024;
/** Frames that may wait to be sent; requests are few and far between. */
const SENDING_MAX = 64;
/** All classes of linux/can/error.h: drivers send those of single bus errors only when "berr-reporting on" asks for them. */
const ERROR_MASK = '1FFFFFFF';
const HOW_TO_START =
  '"ip -details link show NAME" shows its state; "ip link set NAME up type can bitrate 500000" starts it.';
const HOW_TO_FIND = '"ip -brief link" lists the interfaces; is the driver of the adapter loaded?';
/** candump says so at its start; it is no reason to end. */
const SMALL_BUFFER = /^The socket receive buffer size was adjusted.*$/m;
const DROPPED = /^DROPCOUNT: dropped \d+ CAN frames? on .* socket \(total drops (-?\d+)\)/;

export interface SocketCanOptions extends ReopenOptions {
  /** `can0`. */
  interface: string;
  /** Of the kernel; without them all frames come. */
  filters?: readonly KernelFilter[] | undefined;
}

/**
 * A CAN interface of Linux. Node.js has no AF_CAN, so that `candump` of can-utils reads it: every distribution has it,
 * it needs no native module here, and it shows the kernel's count of lost frames (SO_RXQ_OVFL). When this process is too
 * slow, the pipe fills, candump waits, and the kernel counts: no loss is silent. `cansend` sends. `setpriv` of util-linux
 * has the kernel end candump with this process, also when that is killed: on a silent bus candump would not notice.
 */
export class SocketCanSource implements CanBus {
  malformed = 0;
  /** Remote frames, skipped. */
  remote = 0;
  /** Error frames: they carry no signals, and tell the state. */
  errors = 0;
  state: BusState = 'closed';
  #droppedBefore = 0;
  #droppedNow = 0;
  #sending = 0;
  #sent: Promise<unknown> = Promise.resolve();
  readonly #options: SocketCanOptions;

  constructor(options: SocketCanOptions) {
    this.#options = options;
  }

  /** The kernel tells it with the next frame that it delivers, so losses at the end of a burst are seen a frame later. */
  get dropped(): number {
    return this.#droppedBefore + this.#droppedNow;
  }

  frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    return reopening((s) => this.#read(s), signal, this.#options);
  }

  async send(frame: CanFrame): Promise<void> {
    if (this.#sending >= SENDING_MAX)
      throw new CardanError(
        'CAN_SEND_FAILED',
        `${SENDING_MAX} frames wait to be sent on ${this.#options.interface}.`,
      );
    this.#sending++;
    const done = this.#sent.then(() => this.#send(frame));
    this.#sent = done.catch(() => undefined);
    try {
      await done;
    } finally {
      this.#sending--;
    }
  }

  async #send({ id, extended, fd, data }: CanFrame): Promise<void> {
    const name = this.#options.interface;
    const digits = id
      .toString(16)
      .toUpperCase()
      .padStart(extended ? 8 : 3, '0');
    const child = spawn(
      'cansend',
      [name, `${digits}#${fd ? '#0' : ''}${Buffer.from(data).toString('hex')}`],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    const ended = await endOf(child, 'cansend');
    if (ended.status !== 0)
      throw new CardanError('CAN_SEND_FAILED', `Cannot send on ${name}: ${ended.words}. Is it up?`);
  }

  async *#read(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    const { interface: name, filters } = this.#options;
    const list = (filters ?? [])
      .map(({ id, mask }) => `,${filterId(id)}:${mask.toString(16).toUpperCase()}`)
      .join('');
    const pipe = new CalmPipe();
    const child = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL', 'candump', '-L', '-d', '-r', String(RECEIVE_BUFFER_BYTES)],
        `${name}${list},#${ERROR_MASK}`,
      ],
      { stdio: ['ignore', pipe.writeEnd, 'pipe'], env: { ...process.env, LC_ALL: 'C' } },
    );
    child.once('spawn', () => this.#enter('open'));
    const ended = endOf(child, 'candump');
    const stop = () => void child.kill();
    signal.addEventListener('abort', stop, { once: true });
    let opened = false;
    try {
      let rest = '';
      for await (const chunk of pipe.read()) {
        opened = true;
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > LINE_CHARACTERS_MAX) {
          rest = '';
          this.malformed++;
        }
        const frames = lines.flatMap((line) => this.#line(line) ?? []);
        if (frames.length > 0) yield frames;
        if (signal.aborted) return;
      }
      const { words } = await ended;
      if (signal.aborted) return;
      // candump of an interface that is down opens it, and is told at the first read.
      const down = opened || words.includes('Network is down');
      throw new CardanError(
        down ? 'CAN_BUS_DOWN' : 'CAN_UNAVAILABLE',
        `${name}: ${words}. ${down ? HOW_TO_START : HOW_TO_FIND} It is tried again.`.replaceAll('NAME', name),
      );
    } finally {
      signal.removeEventListener('abort', stop);
      child.kill();
      await ended;
      this.state = 'closed';
      this.#droppedBefore += this.#droppedNow;
      this.#droppedNow = 0;
    }
  }

  #line(line: string): CanFrame | undefined {
    const dropped = DROPPED.exec(line);
    if (dropped) {
      this.#droppedNow = Number(dropped[1]) >>> 0; // candump prints the unsigned count as a signed one
      return undefined;
    }
    try {
      const parsed = parseCandump(line);
      if (parsed.kind === 'data') {
        // Who is bus-off hears nothing: the controller has been restarted.
        if (this.state === 'bus-off') this.#enter('open');
        return parsed.frame;
      }
      if (parsed.kind === 'remote') {
        this.remote++;
      } else {
        this.errors++;
        this.#enter(stateAfter(this.state, parsed.classes, parsed.details));
      }
    } catch {
      this.malformed++;
    }
    return undefined;
  }

  #enter(state: BusState): void {
    if (state === this.state) return;
    this.state = state;
    const name = this.#options.interface;
    if (state === 'bus-off')
      this.#options.onProblem?.(
        new CardanError(
          'CAN_BUS_OFF',
          `${name} is bus-off: its controller saw too many faults and takes no part any more. Check cable, ` +
            `termination and bit rate; "ip link set ${name} type can restart" starts it again, "restart-ms 100" by itself.`,
        ),
      );
    else if (state === 'error-passive')
      this.#options.onProblem?.(
        new CardanError(
          'CAN_ERROR_PASSIVE',
          `${name} is error-passive: its controller sees many faults. Check cable, termination and bit rate.`,
        ),
      );
  }
}

/** Eight digits are an extended id for newer candumps, three a standard one; older ones go by the flag in the number. */
function filterId(id: number): string {
  return id.toString(16).toUpperCase().padStart(3, '0');
}

/** Never rejects. */
async function endOf(
  child: ChildProcess,
  program: string,
): Promise<{ status: number | null; words: string }> {
  let words = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-500);
  });
  try {
    await once(child, 'close');
  } catch (error) {
    if (systemCode(error) === 'ENOENT')
      return {
        status: null,
        words: `there is no program ${child.spawnfile} here; install ${child.spawnfile === 'setpriv' ? 'util-linux' : 'can-utils'}`,
      };
    return { status: null, words: messageOf(error) };
  }
  if (/^setpriv: failed to execute candump/m.test(words))
    return { status: child.exitCode, words: 'there is no program candump here; install can-utils' };
  return {
    status: child.exitCode,
    words: words.replace(SMALL_BUFFER, '').trim().replaceAll('\n', ' ') || `${program} has ended`,
  };
}
