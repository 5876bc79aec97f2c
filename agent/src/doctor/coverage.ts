import { readFileSync } from 'node:fs';
import { CardanError, messageOf, systemCode } from '@cardan/shared';
import { compileDecoder, lintDbc, type Dbc, type Message } from '../dbc/index.ts';
import { J1939Matcher } from '../j1939/index.ts';
import { mapAllSignals, readVssMap } from '../vss.ts';
import { counted, Findings } from './finding.ts';
import type { Traffic } from './traffic.ts';

/** Ids and messages that are named in one line. */
const NAMED_MAX = 5;
/** A message that should have come this often, and never did, is missing. */
const CYCLES_MIN = 3;

/** The DBC by itself, and the VSS map; `dbc` is undefined when it cannot be used. */
export function checkDbc(
  path: string,
  vss: string | undefined,
): { findings: Findings; dbc: Dbc | undefined } {
  const findings = new Findings();
  let dbc: Dbc;
  try {
    const { dbc: read, findings: lint } = lintDbc(readFileSync(path));
    dbc = read;
    const signals = dbc.messages.reduce((sum, message) => sum + message.signals.length, 0);
    const text = `${counted(dbc.messages.length, 'message')}, ${counted(signals, 'signal')}`;
    if (dbc.messages.length === 0) {
      findings.fail('dbc', `${path} has no usable message`, 'Give another file.');
      return { findings, dbc: undefined };
    }
    if (lint.length === 0) findings.ok('dbc', text);
    else
      findings.warn(
        'dbc',
        `${text}; ${counted(lint.length, 'finding')}, the first in line ${lint[0]?.line}: ${lint[0]?.message}`,
        `cardan-agent dbc lint ${path} lists all.`,
      );
  } catch (error) {
    findings.fail('dbc', `${path} cannot be read (${systemCode(error) ?? messageOf(error)})`, 'Check --dbc.');
    return { findings, dbc: undefined };
  }
  try {
    const { columns, set } = vss === undefined ? mapAllSignals(dbc) : readVssMap(vss, dbc);
    findings.ok('signals', `${columns.length} go up as signal set ${set.id}`);
  } catch (error) {
    if (!(error instanceof CardanError)) throw error;
    findings.fail('signals', error.message, 'Correct the map in --vss.');
  }
  return { findings, dbc };
}

/** What was heard against what the DBC knows. */
export function checkCoverage(dbc: Dbc, traffic: Traffic, { j1939 = false } = {}): Findings {
  const findings = new Findings();
  if (traffic.frames === 0) {
    findings.skip('coverage', 'no frame was heard', 'See the lines of the bus.');
    return findings;
  }
  const decoder = compileDecoder(dbc);
  const matcher = j1939 ? new J1939Matcher(decoder) : undefined;
  const find = (id: number, extended: boolean) => decoder.find(id, extended) ?? matcher?.find(id, extended);
  const unknown: { name: string; frames: number }[] = [];
  const short: string[] = [];
  const heard = new Set<Message>();
  let knownFrames = 0;
  for (const { id, extended, frames, shortest } of traffic.ids.values()) {
    const message = find(id, extended)?.message;
    if (message === undefined) {
      unknown.push({ name: idText(id, extended), frames });
      continue;
    }
    heard.add(message);
    knownFrames += frames;
    if (shortest < message.length)
      short.push(`${message.name} ${shortest} of ${counted(message.length, 'byte')}`);
  }
  const { ids, frames: all, spanMs } = traffic;
  const text =
    `${ids.size - unknown.length} of ${counted(ids.size, 'id')} seen are in the DBC, ` +
    `with ${((100 * knownFrames) / all).toFixed(1)} % of ${counted(all, 'frame')}`;
  if (heard.size === 0)
    findings.fail(
      'coverage',
      text,
      `It is the DBC of another car or another bus.${j1939 || !dbc.messages.some((m) => m.extended) ? '' : ' For trucks give --j1939: their ids also name the sender.'}`,
    );
  else findings.ok('coverage', text);
  if (unknown.length > 0) {
    unknown.sort((a, b) => b.frames - a.frames);
    const named = unknown
      .slice(0, NAMED_MAX)
      .map(({ name, frames }) => `${name} ${spanMs > 0 ? rate((1000 * frames) / spanMs) : `${frames}×`}`);
    findings.warn(
      'unknown ids',
      `${unknown.length}: ${named.join(', ')}${unknown.length > NAMED_MAX ? ', …' : ''}`,
      'They are left out. Right when the DBC has only what you want; else it is of another year or model.',
    );
  }
  if (short.length > 0)
    findings.warn(
      'short frames',
      `${short.slice(0, NAMED_MAX).join(', ')}${short.length > NAMED_MAX ? `, and ${short.length - NAMED_MAX} more` : ''}`,
      'Signals beyond their end are missing. The DBC is of another version of the car.',
    );
  neverHeard(
    findings,
    decoder.messages.map(({ message }) => message),
    heard,
    spanMs,
  );
  return findings;
}

function neverHeard(
  findings: Findings,
  messages: readonly Message[],
  heard: ReadonlySet<Message>,
  spanMs: number,
): void {
  const what = 'known ids';
  const absent = messages.filter((message) => !heard.has(message) && message.signals.length > 0);
  if (absent.length === 0) return findings.ok(what, 'each was seen');
  // Only of those whose period is known can it be said that they should have come.
  const overdue = absent.filter(
    ({ cycleTimeMs }) => cycleTimeMs !== null && CYCLES_MIN * cycleTimeMs <= spanMs,
  );
  const list = overdue.length > 0 ? overdue : absent;
  const names =
    list
      .slice(0, NAMED_MAX)
      .map(({ name, id, extended }) => `${name} ${idText(id, extended)}`)
      .join(', ') + (list.length > NAMED_MAX ? ', …' : '');
  if (overdue.length > 0)
    findings.warn(
      what,
      `${overdue.length} should have come by their period and did not: ${names}`,
      'Another bus of the car may have them (give --can twice), or they come only while driving.',
    );
  else findings.ok(what, `${absent.length} of ${messages.length} not seen in this time: ${names}`);
}

function idText(id: number, extended: boolean): string {
  return `0x${id
    .toString(16)
    .toUpperCase()
    .padStart(extended ? 8 : 3, '0')}`;
}

function rate(perSecond: number): string {
  return `${perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond)}/s`;
}
