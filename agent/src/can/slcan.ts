import { execFile } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { ReadStream } from 'node:tty';
import { promisify } from 'node:util';
import { CardanError, messageOf } from '@cardan/shared';
import type { BusState, CanBus, CanFrame } from './can-frame.ts';
import { reopening, type ReopenOptions } from './reopen.ts';
import { SlcanClock } from './slcan-clock.ts';
import { parseSlcan, slcanLine, SlcanLines } from './slcan-line.ts';

/** Bit rates of the bus in bit/s, and the command that sets each. */
export const SLCAN_BITRATES: ReadonlyMap<number, string> = new Map([
  [10_000, 'S0'],
  [20_000, 'S1'],
  [50_000, 'S2'],
  [100_000, 'S3'],
  [125_000, 'S4'],
  [250_000, 'S5'],
  [500_000, 'S6'],
  [750_000, 'S7'],
  [1_000_000, 'S8'],
]);
/** Speeds of the serial line itself, in baud, that Linux and adapters have. Adapters on USB ignore it. */
export const SERIAL_BAUDS: ReadonlySet<number> = new Set([
  9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 500_000, 921_600, 1_000_000, 2_000_000, 3_000_000,
]);
const SERIAL_BAUD = 115_200;

export interface SlcanOptions extends ReopenOptions {
  /** Serial port or pseudo terminal. */
  device: string;
  /** Of the bus, in bit/s; one of `SLCAN_BITRATES`. */
  bitrate: number;
  /** Of the serial line, one of `SERIAL_BAUDS`; 115,200 by default. */
  baud?: number;
  /** Told when the adapter has been told to open its channel. */
  onOpen?: () => void;
  /** Milliseconds since 1970. */
  now?: () => number;
}

/** A CAN adapter on a serial line that speaks slcan: CANable, USBtin, LAWICEL and many others. */
export class SlcanSource implements CanBus {
  /** Lines that were no frame, also those that were too long. */
  malformed = 0;
  /** Remote frames, skipped. */
  remote = 0;
  state: BusState = 'closed';
  readonly #options: SlcanOptions;
  #port: FileHandle | undefined;
  #clock = new SlcanClock();

  constructor(options: SlcanOptions) {
    this.#options = options;
  }

  frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    return reopening((s) => this.#read(s), signal, this.#options);
  }

  async send(frame: CanFrame): Promise<void> {
    const { device } = this.#options;
    if (this.#port === undefined) throw new CardanError('CAN_SEND_FAILED', `${device} is not open.`);
    const line = slcanLine(frame);
    try {
      await this.#port.appendFile(line);
    } catch (cause) {
      throw new CardanError('CAN_SEND_FAILED', `Cannot send on ${device}: ${messageOf(cause)}.`, { cause });
    }
  }

  async *#read(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    const { device, bitrate, now = () => performance.timeOrigin + performance.now() } = this.#options;
    const { input, port } = await this.#open();
    const stop = () => void input.destroy();
    signal.addEventListener('abort', stop, { once: true });
    const lines = new SlcanLines();
    this.#clock = new SlcanClock();
    try {
      // The empty lines end whatever stood half-written; a channel that is open takes no bit rate.
      await port.appendFile(`\r\rC\r${SLCAN_BITRATES.get(bitrate)!}\rO\r`);
      this.#port = port;
      this.state = 'open';
      this.#options.onOpen?.();
      for await (const chunk of input.setEncoding('latin1') as AsyncIterable<string>) {
        const arrival = now();
        const frames = lines.push(chunk).flatMap((line) => this.#frame(line, arrival) ?? []);
        if (frames.length > 0) yield frames;
        if (signal.aborted) return;
      }
      if (!signal.aborted) throw new Error('the port was closed');
    } catch (cause) {
      if (signal.aborted) return;
      throw new CardanError('CAN_BUS_DOWN', `${device}: ${messageOf(cause)}. Is the adapter plugged in?`, {
        cause,
      });
    } finally {
      signal.removeEventListener('abort', stop);
      this.#port = undefined;
      this.state = 'closed';
      await port.appendFile('C\r').catch(() => undefined); // gone, perhaps
      input.destroy();
      await port.close();
    }
  }

  async #open(): Promise<{ input: ReadStream; port: FileHandle }> {
    const { device, baud = SERIAL_BAUD } = this.#options;
    // Without O_NONBLOCK the open would wait for a carrier that adapters do not have.
    const flags = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
    let port: FileHandle | undefined;
    try {
      port = await open(device, flags);
      await promisify(execFile)('stty', ['-F', device, String(baud), 'raw', '-echo', 'clocal']);
      const descriptor = openSync(device, flags);
      try {
        return { input: new ReadStream(descriptor), port };
      } catch (error) {
        closeSync(descriptor);
        throw error;
      }
    } catch (cause) {
      await port?.close();
      throw new CardanError(
        'CAN_UNAVAILABLE',
        `Cannot open ${device} as a serial port: ${messageOf(cause).trim()}. ` +
          '"ls /dev/serial/by-id" lists adapters; the user must be in the group that owns it, often dialout.',
        { cause },
      );
    }
  }

  #frame(line: string | null, arrival: number): CanFrame | undefined {
    try {
      if (line === null) throw new CardanError('CAN_FRAME_INVALID', 'The line is too long.');
      const parsed = parseSlcan(line);
      if (parsed.kind === 'data') {
        const { stamp, frame } = parsed;
        return { ...frame, time: stamp === undefined ? arrival : this.#clock.time(stamp, arrival) };
      }
      if (parsed.kind === 'remote') this.remote++;
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      this.malformed++;
    }
    return undefined;
  }
}
