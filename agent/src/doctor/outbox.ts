import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, systemCode } from '@cardan/shared';
import { openSqlite } from '@cardan/shared/sqlite';
import { AGENT_DEFAULTS } from '../config.ts';
import { bytesText, counted, Findings } from './finding.ts';

/** The share of its bound from which on an outbox is nearly full. */
const NEARLY_FULL = 0.8;

interface Contents {
  rows: number;
  bytes: number;
  events: number;
  lost: { campaign: string; rows: number; events: number }[];
}

/**
 * What waits in the outbox, and what was lost. It is opened for reading only, and for a moment only: an agent that runs
 * goes on writing meanwhile.
 */
export function checkOutbox(dataDir: string): Findings {
  const findings = new Findings();
  const what = 'outbox';
  const path = join(dataDir, 'outbox.db');
  if (!existsSync(path)) {
    findings.skip(what, `${path} is not there yet`, 'The agent makes it when it starts.');
    return findings;
  }
  let contents: Contents;
  try {
    contents = read(path);
  } catch (error) {
    const code = systemCode(error) ?? '';
    findings.fail(
      what,
      `${path} cannot be read (${code === '' ? messageOf(error) : code})`,
      /CORRUPT|NOTADB/.test(code)
        ? 'It is damaged. The agent sets it aside when it starts, and begins a new one.'
        : /no such (table|column)/.test(messageOf(error))
          ? 'It is of another version, or no outbox. Let the version that wrote it send what it holds.'
          : 'Run the doctor as the user of the agent.',
    );
    return findings;
  }
  const { rowsMax, bytesMax } = AGENT_DEFAULTS.outbox;
  const { rows, bytes, events, lost } = contents;
  const size = statSync(path).size + (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0);
  const text = `${counted(rows, 'row')} and ${counted(events, 'event')} wait, ${bytesText(size)} on disk`;
  if (rows >= NEARLY_FULL * rowsMax || bytes >= NEARLY_FULL * bytesMax)
    findings.warn(
      what,
      `${text}: nearly full`,
      'The oldest rows will go. Find out why nothing is acknowledged: see "broker", and the log of the bridge.',
    );
  else findings.ok(what, text);
  const lostRows = lost.reduce((sum, entry) => sum + entry.rows, 0);
  const lostEvents = lost.reduce((sum, entry) => sum + entry.events, 0);
  if (lostRows + lostEvents === 0) findings.ok('losses', 'none since the outbox was made');
  else {
    const parts = lost
      .filter((entry) => entry.rows + entry.events > 0)
      .slice(0, 5)
      .map(
        ({ campaign, rows: r, events: e }) =>
          `${campaign === '' ? 'without a campaign' : campaign} ${r} + ${e}`,
      );
    findings.warn(
      'losses',
      `${counted(lostRows, 'row')} and ${counted(lostEvents, 'event')} were dropped since the outbox was made (${parts.join(', ')})`,
      'It was full or too old: the car was offline for too long, or the disk is too small.',
    );
  }
  const aside = readdirSync(dataDir).filter((name) =>
    /^outbox\.db\.corrupt-[^-]+.*(?<!-wal|-shm)$/.test(name),
  );
  if (aside.length > 0)
    findings.warn(
      'damaged outbox',
      `${counted(aside.length, 'damaged file')} set aside, the newest ${aside.sort().at(-1)}`,
      'Power cuts and worn cards do this. See "flash wear"; delete the files when nobody needs them.',
    );
  return findings;
}

function read(path: string): Contents {
  const db = openSqlite(path, { readonly: true, fileMustExist: true, timeout: 1000 });
  try {
    const sums = db
      .prepare('SELECT coalesce(sum(rows), 0) AS rows, coalesce(sum(bytes), 0) AS bytes FROM partitions')
      .get() as { rows: number; bytes: number };
    const events = db.prepare('SELECT count(*) FROM events').pluck().get() as number;
    const lost = db.prepare('SELECT campaign, rows, events FROM dropped ORDER BY rows DESC').all();
    return { ...sums, events, lost: lost as Contents['lost'] };
  } finally {
    db.close();
  }
}
