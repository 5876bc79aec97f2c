import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { lintDbc } from '../../src/dbc/index.ts';
import { hasCantools } from './cantools.ts';
import { type Random, randomDbc, seeded } from './random-dbc.ts';

const findings = (lines: string[]) =>
  lintDbc(lines.join('\n')).findings.map(({ line, check, message }) => `${line} ${check}: ${message}`);

describe('dbc lint', () => {
  it.each(['vehicle', 'multiplexed', 'wide'])('finds nothing in a sound file (%s)', (name) => {
    expect(lintDbc(readFileSync(`${import.meta.dirname}/fixtures/${name}.dbc`)).findings).toEqual([]);
  });

  it('finds no overlaps and nothing broken in random files without such', () => {
    const random = seeded(5);
    for (let i = 0; i < 50; i++)
      expect(
        lintDbc(randomDbc(random).text).findings.filter(({ check }) => ['parse', 'overlap'].includes(check)),
      ).toEqual([]);
  });

  it('takes as sound what is only unusual', () => {
    expect(
      findings([
        'BO_ 1 A: 8 Vector__XXX',
        ' SG_ NoUnit : 0|8@1+ (1,0) [0|0] "" X',
        ' SG_ OddUnit : 8|8@1+ (-1,0) [-5|-5] "furlong/fortnight" X',
        'BO_ 2 Empty: 0 X',
        'VAL_ 1 NoUnit 1 "reserved" 2 "reserved" ;',
      ]),
    ).toEqual([]);
  });

  it('finds what is wrong with a signal, each in its line', () => {
    expect(
      findings([
        'BO_ 1 A: 8 X',
        ' SG_ Upside : 0|8@1+ (1,0) [10|-10] "" X',
        ' SG_ Flat : 8|8@1+ (0,7) [0|0] "" X',
        ' SG_ Named : 16|2@1- (1,0) [0|0] "" X',
        ' SG_ Late : 60|8@1+ (1,0) [0|0] "" X',
        'VAL_ 1 Named -3 "low" -2 "lowest" 1 "highest" 2 "high" ;',
        'VAL_ 1 Gone 1 "x" ;',
      ]),
    ).toEqual([
      '2 range: the minimum of Upside is 10, above its maximum of -10',
      '3 zero-scale: the factor of Flat is 0: all its values are 7',
      '4 name-out-of-range: "low" names -3, which the 2 signed bits of Named cannot hold',
      '4 name-out-of-range: "high" names 2, which the 2 signed bits of Named cannot hold',
      '5 parse: Late goes beyond the 8 bytes of A',
      '7 parse: no signal of this name in a message of this id: 1 Gone',
    ]);
  });

  it('finds ids and names that are there twice, and lengths that no frame has', () => {
    expect(
      findings([
        'BO_ 1 A: 8 X',
        'BO_ 1 B: 8 X',
        'BO_ 2 A: 8 X',
        'BO_ 3 Fd: 13 X',
        'BO_ 4 Wide: 64 X',
        ' SG_ Huge : 0|65@1+ (1,0) [0|0] "" X',
        'BA_DEF_ BO_ "VFrameFormat" INT 0 15;',
        'BA_ "VFrameFormat" BO_ 3 14;',
      ]),
    ).toEqual([
      '2 parse: B has the id of A: frames are decoded as B',
      '3 parse: a second message has the name A',
      '4 length: Fd has 13 bytes; CAN FD has 0 to 8, 12, 16, 20, 24, 32, 48, 64',
      '6 length: Huge has 65 bits; a number has at most 64',
    ]);
  });

  it('finds multiplexers that select nothing, and branches that are never selected', () => {
    expect(
      findings([
        'BO_ 1 A: 8 X',
        ' SG_ Kind M : 0|2@1+ (1,0) [0|0] "" X',
        ' SG_ Three m3 : 8|8@1+ (1,0) [0|0] "" X',
        ' SG_ Four m4 : 8|8@1+ (1,0) [0|0] "" X',
        'BO_ 2 B: 8 X',
        ' SG_ Lonely M : 0|2@1+ (1,0) [0|0] "" X',
      ]),
    ).toEqual([
      '4 branch-out-of-range: Four is there when Kind is 4, which its 2 unsigned bits cannot hold',
      '6 selects-nothing: Lonely is a multiplexer, but no signal depends on it',
    ]);
  });

  it('finds signals that overlap in one frame, not those of different branches', () => {
    expect(
      findings([
        'BO_ 1 A: 8 X',
        ' SG_ Kind M : 0|8@1+ (1,0) [0|0] "" X',
        ' SG_ One m1 : 8|8@1+ (1,0) [0|0] "" X',
        ' SG_ Two m2 : 8|8@1+ (1,0) [0|0] "" X',
        ' SG_ AlsoTwo m2 : 15|4@0+ (1,0) [0|0] "" X',
        ' SG_ All : 4|12@1+ (1,0) [0|0] "" X',
      ]),
    ).toEqual([
      '5 overlap: AlsoTwo has bits in common with Two',
      '6 overlap: All has bits in common with Kind and 3 more',
    ]);
  });

  it('finds that there is no message', () => {
    expect(findings(['{"no": "DBC"}']).map((text) => text.split(':')[0])).toEqual([
      '1 parse',
      '1 no-message',
    ]);
  });

  it('never fails, whatever the file is', () => {
    const random = seeded(9);
    const sound = readFileSync(`${import.meta.dirname}/fixtures/multiplexed.dbc`, 'utf8');
    for (let i = 0; i < 200; i++) {
      const at = Math.floor(random() * sound.length);
      const text = sound.slice(0, at) + sound.slice(at + Math.floor(random() * 40));
      for (const { line } of lintDbc(text).findings)
        expect(line).toBeLessThanOrEqual(text.split('\n').length);
    }
  });

  it.skipIf(!hasCantools())('finds overlaps and signals beyond their message where cantools does', () => {
    const random = seeded(11);
    const texts = Array.from({ length: 400 }, () => randomLayout(random));
    const python = spawnSync('python3', [`${import.meta.dirname}/strict-oracle.py`], {
      input: JSON.stringify(texts),
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    });
    if (python.status !== 0) throw new Error(python.stderr.toString());
    const errors = JSON.parse(python.stdout.toString()) as (string | null)[];
    const refused = errors.filter((error) => error !== null);
    for (const error of refused) expect(error).toMatch(/overlapping|does not fit/);
    expect(refused.length).toBeGreaterThan(50);
    expect(refused.length).toBeLessThan(350);
    texts.forEach((text, i) => {
      const found = lintDbc(text).findings.filter(
        ({ check, message }) => check === 'overlap' || message.includes('goes beyond'),
      );
      expect(found.length > 0, `${text}\ncantools: ${errors[i]}`).toBe(errors[i] !== null);
    });
  });
});

/** One message with a few signals anywhere, without multiplexing or with two levels of it. */
function randomLayout(random: Random): string {
  const int = (below: number) => Math.floor(random() * below);
  const lines = ['BO_ 1 A: 4 X'];
  const more: string[] = [];
  const add = (name: string, marker: string) =>
    lines.push(` SG_ ${name} ${marker} : ${int(32)}|${1 + int(8)}@${int(2)}+ (1,0) [0|0] "" X`);
  const select = (name: string, selector: string, value: number) =>
    more.push(`SG_MUL_VAL_ 1 ${name} ${selector} ${value}-${value};`);
  if (random() < 0.3) for (let i = 0; i < 3; i++) add(`S${i}`, '');
  else {
    lines.push(' SG_ Root M : 0|3@1+ (1,0) [0|0] "" X');
    if (random() < 0.3) add('Always', '');
    if (random() < 0.5) for (let i = 0; i < 4; i++) add(`S${i}`, `m${int(3)}`);
    else {
      lines.push(' SG_ Inner m1M : 3|3@1+ (1,0) [0|0] "" X');
      select('Inner', 'Root', 1);
      for (let i = 0; i < 3; i++) {
        const value = int(3);
        add(`S${i}`, `m${value}`);
        select(`S${i}`, random() < 0.5 ? 'Root' : 'Inner', value);
      }
    }
  }
  return [...lines, '', ...more, ''].join('\n');
}
