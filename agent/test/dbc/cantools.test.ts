import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseDbc } from '../../src/dbc/index.ts';
import { type Answer, askCantools, expectAsCantools, type Frame, hasCantools } from './cantools.ts';
import { randomDbc, seeded } from './random-dbc.ts';

const golden = JSON.parse(readFileSync(`${import.meta.dirname}/golden.json`, 'utf8')) as {
  cases: { dbc: string; frames: (Frame & Answer)[] }[];
};

describe('the same bits as cantools', () => {
  it.each(golden.cases)('for the recorded frames of $dbc', ({ dbc, frames }) => {
    const parsed = parseDbc(readFileSync(`${import.meta.dirname}/fixtures/${dbc}`));
    expect(parsed.warnings).toEqual([]);
    expect(expectAsCantools(parsed, frames, frames)).toBeGreaterThan(50);
  });

  it.skipIf(!hasCantools())('for random frames of random DBC files', () => {
    const random = seeded(20_260_101);
    const cases = Array.from({ length: 60 }, () => randomDbc(random));
    const answers = askCantools(cases);
    let compared = 0;
    cases.forEach(({ text, frames }, i) => {
      const parsed = parseDbc(text);
      expect(parsed.warnings).toEqual([]);
      compared += expectAsCantools(parsed, frames, answers[i]!.frames);
    });
    expect(compared).toBeGreaterThan(10_000);
  });

  const trip = `${import.meta.dirname}/../../../../shared/data/obd-trip`;
  it.skipIf(!hasCantools() || !present(`${trip}/obd2.dbc`))('for a real car on the road', () => {
    const text = readFileSync(`${trip}/obd2.dbc`, 'utf8');
    const frames = readFileSync(`${trip}/trip.candump.log`, 'utf8')
      .split('\n')
      .slice(0, 4000)
      .filter((line) => line !== '')
      .map((line) => ({ id: 0x7e8, extended: false, data: line.split('#')[1]! }));
    const [answer] = askCantools([{ text, frames }]);
    expect(expectAsCantools(parseDbc(text), frames, answer!.frames)).toBe(4 * frames.length);
  });
});

function present(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    console.log(`skipped: ${path} is not here`);
    return false;
  }
}
