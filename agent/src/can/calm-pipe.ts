import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { Socket, type ConnectOpts, type SocketConstructorOpts } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CardanError, messageOf } from '@cardan/shared';

/** After each read this long is not read: what comes meanwhile waits in the pipe, and is read at once. */
const PAUSE_MS = 10;
/** As much as a pipe of Linux holds. */
const BUFFER_BYTES = 64 * 1024;

/**
 * A pipe for the output of a program that writes often and little, such as candump, a line per frame. A pipe of
 * `spawn` wakes this process for each write, 18 µs of CPU a line at 4,000 lines a second; this one wakes it at most 100
 * times a second, 4 µs a line. While nothing is written nothing wakes.
 */
export class CalmPipe {
  /** For `stdio` of the program. */
  readonly writeEnd: number;
  private readonly readEnd: number;

  /** @throws CardanError CAN_UNAVAILABLE */
  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'cardan-pipe-'));
    try {
      const path = join(folder, 'pipe');
      makeFifo(path);
      this.readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      this.writeEnd = openSync(path, 'w');
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** What is written, in pieces, until the last writer has closed it. To be called once the program has been started. */
  async *read(): AsyncGenerator<string> {
    closeSync(this.writeEnd); // the program has its own
    const buffer = Buffer.alloc(BUFFER_BYTES);
    let length = 0;
    let ended = false;
    let wake: () => void = () => undefined;
    const options: SocketConstructorOpts & Pick<ConnectOpts, 'onread'> = {
      fd: this.readEnd,
      readable: true,
      writable: false,
      onread: {
        buffer,
        callback: (bytes) => {
          length = bytes;
          wake();
          return false; // no more before it is resumed
        },
      },
    };
    const socket = new Socket(options);
    socket.on('error', () => undefined); // it closes, too
    socket.once('close', () => {
      ended = true;
      wake();
    });
    try {
      for (;;) {
        const woken = new Promise<void>((resolve) => (wake = resolve));
        socket.resume();
        await woken;
        if (length > 0) yield buffer.toString('latin1', 0, length);
        length = 0;
        if (ended) return;
        await sleep(PAUSE_MS);
      }
    } finally {
      socket.destroy();
    }
  }
}

/** Node.js makes no FIFOs. */
function makeFifo(path: string): void {
  try {
    execFileSync('mkfifo', ['-m', '600', path], {
      env: { PATH: `${process.env.PATH ?? ''}:/usr/bin:/bin` },
      stdio: 'pipe',
    });
  } catch (cause) {
    throw new CardanError(
      'CAN_UNAVAILABLE',
      `There is no pipe for candump: ${messageOf(cause)}. Is coreutils installed?`,
      {
        cause,
      },
    );
  }
}
