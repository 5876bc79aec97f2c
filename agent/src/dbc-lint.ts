import { readFile } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { unreadable } from './can/line-reader.ts';
import { lintDbc, type LintFinding } from './dbc/index.ts';
import { Output } from './output.ts';

export interface DbcLintOptions {
  paths: readonly string[];
  /** One JSON object a line per file, in place of `FILE:LINE: message`. */
  json: boolean;
  /** Gets the findings. */
  out: Writable;
  /** Gets the summary. */
  err: Writable;
}

/** A file in the output of `--json`. */
export interface DbcLintReport {
  file: string;
  messages: number;
  signals: number;
  findings: LintFinding[];
}

/**
 * Lists what looks wrong in DBC files.
 *
 * @returns the number of findings
 * @throws CardanError FILE_NOT_FOUND, FILE_NOT_READABLE
 */
export async function dbcLintCommand(options: DbcLintOptions): Promise<number> {
  const out = new Output(options.out);
  const err = new Output(options.err);
  const total = { messages: 0, signals: 0, findings: 0 };
  try {
    for (const file of options.paths) {
      const bytes = await readFile(file).catch((e: unknown) => Promise.reject(unreadable(file, e) as Error));
      const { dbc, findings } = lintDbc(bytes);
      const report: DbcLintReport = {
        file,
        messages: dbc.messages.length,
        signals: dbc.messages.reduce((sum, { signals }) => sum + signals.length, 0),
        findings,
      };
      total.messages += report.messages;
      total.signals += report.signals;
      total.findings += findings.length;
      if (options.json) out.add(`${JSON.stringify(report)}\n`);
      else for (const { line, message } of findings) out.add(`${file}:${line}: ${message}\n`);
      await out.flush();
    }
    const files = options.paths.length;
    err.add(
      `${counted(total.findings, 'finding')} in ${counted(files, 'file')}, ` +
        `${counted(total.messages, 'message')}, ${counted(total.signals, 'signal')}\n`,
    );
    await err.flush();
    return total.findings;
  } finally {
    out.release();
    err.release();
  }
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
