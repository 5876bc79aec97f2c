import { expect, it } from 'vitest';
import { ProgressLine, progressText } from '../../src/trainer/progress-line.ts';
import type { StreamProgress } from '../../src/trainer/streamed-fit.ts';

const HALF: StreamProgress = {
  epoch: 2,
  epochs: 4,
  rows: 50_000,
  rowsExpected: 100_000,
  records: 2000,
  recordsLeft: 1200,
  loss: 0.123456,
};

it('says the pass, rows a second, the loss, the time that is left of all passes, and the lag', () => {
  expect(progressText(HALF, 10)).toBe(
    'epoch 2 of 4    50 % · 5,000 rows/s · loss 0.1235 · 50 s left · lag 1,200 records',
  );
  expect(progressText({ ...HALF, epoch: 0, loss: Number.NaN }, 10)).toBe(
    'survey          40 % · 5,000 rows/s · lag 1,200 records',
  );
  expect(progressText({ ...HALF, epochs: 400 }, 100)).toContain('22.1 h left');
  // Of the first moments nothing follows.
  expect(progressText(HALF, 0.01)).toBe('epoch 2 of 4    50 % · loss 0.1235 · lag 1,200 records');
});

function recorded(isTTY: boolean) {
  let [text, now] = ['', 0];
  const out = { isTTY, write: (more: string) => (text += more) } as unknown as NodeJS.WriteStream;
  const line = new ProgressLine(out, () => now);
  return { line, text: () => text, pass: (ms: number) => (now += ms) };
}

it('is a line now and then in a file, and one line that is drawn anew on a terminal', () => {
  const file = recorded(false);
  file.line.show({ ...HALF, epoch: 0, loss: Number.NaN });
  for (let i = 0; i < 100; i++) file.line.show({ ...HALF, recordsLeft: 0 });
  expect(file.text().trim().split('\n')).toHaveLength(2);
  file.pass(5000);
  file.line.show({ ...HALF, epoch: 3 });
  file.line.end();
  expect(file.text().trim().split('\n')).toHaveLength(3);

  const terminal = recorded(true);
  terminal.line.show(HALF);
  terminal.pass(200);
  terminal.line.show(HALF);
  terminal.line.end();
  terminal.line.end();
  expect(terminal.text().split('\r')).toHaveLength(3);
  expect(terminal.text().split('\n')).toHaveLength(2);
});
