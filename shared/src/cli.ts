import { accessSync, constants, mkdirSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { CardanError, messageOf, systemCode } from './errors.ts';

/**
 * Runs a command line and ends the process's work with the right exit status:
 * 0 done, 1 a failure that the message explains, 2 wrong usage, 70 a bug.
 * A user's mistake never shows a stack trace.
 */
export async function runCommand(program: Command, argv: readonly string[]): Promise<void> {
  for (const command of [program, ...subcommands(program)]) {
    const name = command.parent === null ? command.name() : `${command.parent.name()} ${command.name()}`;
    command
      .exitOverride()
      .showHelpAfterError(`(${name} --help says what there is)`)
      .configureOutput({ outputError: (text, write) => write(usageText(command, text)) });
  }
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    process.exitCode = explain(error);
  }
}

/** Prints what went wrong to standard error; returns the exit status. */
export function explain(error: unknown): number {
  // commander has printed its own message by now.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof CardanError) {
    process.stderr.write(`error ${error.code}: ${error.message}\n`);
    return error.code === 'USAGE' ? 2 : 1;
  }
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`This is a bug in Cardan; please report it with the lines below.\n${detail}\n`);
  return 70;
}

function subcommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...subcommands(child)]);
}

/** What commander says of wrong usage, with its code; of a word that is no command also the nearest one, or all. */
function usageText(command: Command, text: string): string {
  const coded = text.replace(/^error: /, 'error USAGE: ');
  if (!text.startsWith('error: unknown command ') || text.includes('(Did you mean ')) return coded;
  const names = command.commands.map((child) => child.name());
  return `${coded}(there are: ${names.join(', ')})\n`;
}

/** Option parser: a number between the bounds. */
export function numberBetween(min: number, max: number, { whole = false } = {}): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= min && value <= max) || (whole && !Number.isInteger(value)))
      throw new InvalidArgumentError(`It must be a ${whole ? 'whole ' : ''}number from ${min} to ${max}.`);
    return value;
  };
}

/** Option parser: a TCP port; 0 takes a free one. */
export const portNumber = numberBetween(0, 65535, { whole: true });

/** npm and some shells hand one Ctrl-C on twice: what comes this soon after the first is the same one. */
const SAME_SIGNAL_MS = 1000;

/**
 * A signal that aborts on SIGINT or SIGTERM; a second one ends the process at once. The child of a demo leaves
 * Ctrl-C to its parent, which also gets it, and stops when the parent says so or is gone.
 */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let stoppedAt = Number.POSITIVE_INFINITY;
  const stop = () => {
    if (performance.now() - stoppedAt > SAME_SIGNAL_MS) process.exit(130);
    if (controller.signal.aborted) return;
    stoppedAt = performance.now();
    controller.abort();
  };
  process.on('SIGTERM', stop);
  if (process.connected) {
    process.on('SIGINT', () => undefined);
    process.once('disconnect', stop);
    process.channel?.unref(); // the listener alone shall not keep a process alive whose work is done
  } else {
    process.on('SIGINT', stop);
  }
  return controller.signal;
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Makes the folder if it is missing. Throws DATA_DIR_NOT_WRITABLE when nothing can be written there. */
export function ensureDataDir(dir: string): string {
  try {
    mkdirSync(dir, { recursive: true });
    accessSync(dir, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new CardanError(
      'DATA_DIR_NOT_WRITABLE',
      `Cannot write to the data folder ${dir} (${systemCode(cause) ?? messageOf(cause)}). ` +
        'Choose another one with --data, or change its owner or its rights.',
      { cause },
    );
  }
  return dir;
}
