import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { cloudEvent, ensureLogTopics, eventToRecord } from '@cardan/shared';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { interruptTraining, runCommand } from '../run-command.ts';
import { modelBytes } from './model-bytes.ts';
import { drive, SET } from './telemetry-fixture.ts';

const ROWS = 400;
/** Few rows and units: what counts is that the optimiser, the best epoch and the place in the span are kept. */
const YAML = `
engine: tfjs
backend: wasm
layers: [{gru: {units: 3}}]
epochs: 6
hyperParameters: {windowRows: 4, learningRate: 0.01}
`;
let dir: string;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'resume-'));
  writeFileSync(join(dir, 'model.yaml'), YAML);
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  await ensureLogTopics(log);
  const event = cloudEvent('io.cardan.signal-set', { source: '/vehicles/v0', id: '1', time: 0 }, SET);
  await log.append('signal-sets', [eventToRecord(SET.id, event)]);
  for (let first = 0; first < ROWS; first += 50)
    await log.append(
      'telemetry',
      [0, 1, 2, 3].map((i) => drive(`v${i}`, first, 50)),
    );
  await log.close();
});
afterEach(() => rmSync(dir, { recursive: true }));

function flags(out: string, ...more: string[]): string[] {
  return [
    ...['train', '--log', `sqlite:${join(dir, 'log.db')}`, '--config', join(dir, 'model.yaml')],
    ...['--checkpoint', join(dir, `${out}.checkpoint`), '--out', join(dir, out), ...more],
  ];
}

it('a recurrent network whose training is interrupted comes to the same bytes as an undisturbed one', async () => {
  expect((await runCommand(flags('whole'))).code).toBe(0);

  const { code, err } = await interruptTraining(flags('parts'));
  expect(err).toMatch(/stopped in epoch \d, after \d+ of its rows/);
  expect(code).toBe(130);
  expect(existsSync(join(dir, 'parts'))).toBe(false);

  expect((await runCommand(flags('parts', '--resume'))).code).toBe(0);
  expect(modelBytes(join(dir, 'parts'))).toEqual(modelBytes(join(dir, 'whole')));
  expect(modelBytes(join(dir, 'whole')).manifest.lineage.hyperParameters).toMatchObject({
    tfjsBackend: 'wasm',
  });
});
