import { spawnSync } from 'node:child_process';
import { expect } from 'vitest';
import { compileDecoder, compileEncoder, type Dbc } from '../../src/dbc/index.ts';

/** What cantools makes of a frame; see oracle.py. */
export interface Answer {
  message: string | null;
  /** Doubles as 16 hex digits; null when cantools refuses the frame. */
  signals: Record<string, string> | null;
  /** Digits of integers beyond 2^53. */
  exact: Record<string, string>;
  encoded: string | null;
}

export interface Frame {
  id: number;
  extended: boolean;
  data: string;
}

/** Whether Python with cantools is here. In CI it must be. */
export function hasCantools(): boolean {
  const found = spawnSync('python3', ['-c', 'import cantools']).status === 0;
  if (!found && process.env.CI) throw new Error('CI needs cantools: pip install cantools');
  if (!found) console.log('skipped: no Python with cantools here (pip install cantools)');
  return found;
}

export function askCantools(cases: { text: string; frames: Frame[] }[]): { frames: Answer[] }[] {
  const python = spawnSync('python3', [`${import.meta.dirname}/oracle.py`], {
    input: JSON.stringify(cases),
    maxBuffer: 2 ** 30,
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  });
  if (python.status !== 0) throw new Error(python.stderr.toString());
  return JSON.parse(python.stdout.toString()) as { frames: Answer[] }[];
}

/** Decodes and encodes the frames and compares bit by bit. Gives how many signals were compared. */
export function expectAsCantools(dbc: Dbc, frames: Frame[], answers: Answer[]): number {
  const decoder = compileDecoder(dbc);
  const encoder = compileEncoder(dbc);
  let compared = 0;
  frames.forEach((frame, f) => {
    const answer = answers[f]!;
    const message = decoder.find(frame.id, frame.extended);
    expect(message?.message.name ?? null).toBe(answer.message);
    if (!message) return;
    const data = Buffer.from(frame.data, 'hex');
    message.decode(data);
    // cantools refuses frames whose selector has a value without a branch; here the rest is decoded.
    if (answer.signals === null) return;
    const signals: Record<string, string> = {};
    const exact: Record<string, string> = {};
    const values: Record<string, number> = {};
    message.message.signals.forEach(({ name }, i) => {
      const slot = message.first + i;
      if (decoder.present[slot] === 0) return;
      values[name] = decoder.values[slot]!;
      signals[name] = bits(values[name]);
      if (name in answer.exact) exact[name] = String(message.exact(slot, data));
    });
    const where = `${message.message.name} ${frame.data}`;
    expect(signals, where).toEqual(
      Object.fromEntries(Object.entries(answer.signals).map(([k, v]) => [k, oneNaN(v)])),
    );
    expect(exact, where).toEqual(answer.exact);
    compared += Object.keys(signals).length;
    // A NaN has many bit patterns; which one is encoded says nothing.
    if (answer.encoded === null || Object.values(values).some(Number.isNaN)) return;
    const encoded = encoder.message(message.message.name).encode(values);
    expect(Buffer.from(encoded).toString('hex'), where).toBe(answer.encoded);
  });
  return compared;
}

function bits(value: number): string {
  const buffer = Buffer.alloc(8);
  buffer.writeDoubleBE(value);
  return Number.isNaN(value) ? 'NaN' : buffer.toString('hex');
}

function oneNaN(hex: string): string {
  return bits(Buffer.from(hex, 'hex').readDoubleBE());
}
