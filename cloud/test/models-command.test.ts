import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cloudEvent, eventToRecord, LOG_TOPICS, type ModelManifest } from '@cardan/shared';
import { RegistryClient } from '../src/registry-client.ts';
import type { Reproduction } from '../src/models/reproduce.ts';
import { modelName, trainModel } from '../src/trainer/training.ts';
import { trainOnce } from '../src/trainer/train-once.ts';
import { publish, testModel } from './registry/model-fixture.ts';
import { removeTempDirs, testRegistry, type TestRegistry } from './registry/registry-fixture.ts';
import { drive, SET } from './trainer/telemetry-fixture.ts';

const CLOUD = fileURLToPath(new URL('../bin/cardan-cloud.js', import.meta.url));
const NAME = modelName(SET.id);

let registry: TestRegistry;
beforeEach(async () => {
  registry = await testRegistry();
  for (const [topic, config] of Object.entries(LOG_TOPICS)) await registry.log.createTopic(topic, config);
  const set = cloudEvent('io.cardan.signal-set', { source: '/vehicles/v1', id: '1-1', time: 0 }, SET);
  await registry.log.append('signal-sets', [eventToRecord(SET.id, set)]);
});
afterEach(async () => {
  await registry.close();
  removeTempDirs();
});

/** Runs `cardan-cloud models …` on the log and the registry of the test. */
async function models(command: string, ...args: string[]) {
  const needsLog = ['diff', 'reproduce'].includes(command);
  const log = needsLog ? ['--log', `sqlite:${join(registry.dir, 'log.db')}`] : [];
  const child = spawn(process.execPath, [
    CLOUD,
    'models',
    command,
    ...args,
    '--registry',
    registry.url,
    ...log,
  ]);
  let [out, err] = ['', ''];
  child.stdout.on('data', (data: Buffer) => (out += data.toString('utf8')));
  child.stderr.on('data', (data: Buffer) => (err += data.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number];
  return { code, out, err };
}

/** Drives on, and trains on all that is in the log then. */
async function train(first: number, rows: number): Promise<ModelManifest> {
  await registry.log.append(
    'telemetry',
    ['v1', 'v2'].map((vehicle) => drive(vehicle, first, rows)),
  );
  const [manifest] = await trainOnce({
    log: registry.log,
    registry: new RegistryClient(registry.url),
    span: { from: 'earliest', to: 'latest' },
    signal: new AbortController().signal,
    hyperParameters: { rowsShown: 20_000 },
  });
  return manifest!;
}

test('what was trained and published is listed, shown, compared, and trained again to the same bytes', async () => {
  await train(1, 400);
  const second = await train(401, 400);
  await models('alias', NAME, 'summer', '1');
  await models('tag', NAME, '2', 'reviewed=yes', 'by=anna');

  const listed = await models('list');
  expect(listed.out).toMatch(/^MODEL +NEWEST +PUBLISHED +ROWS +THRESHOLD +ALIASES\n/);
  expect(listed.out).toMatch(new RegExp(`${NAME} +2 +\\S+Z +1600 +\\S+ +champion=2 summer=1\n$`));
  const versions = await models('list', NAME);
  expect(versions.out).toMatch(
    /\n1 +summer +\S+Z +800 .*\n2 +champion +\S+Z +1600 +\S+ +by=anna reviewed=yes\n$/,
  );
  const lines = (await models('list', NAME, '--json')).out.trimEnd().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as { version: string }).version)).toEqual(['1', '2']);

  const shown = (await models('show', NAME, 'champion')).out;
  for (const line of [
    /^version +2$/m,
    /^aliases +champion$/m,
    /^tags +by=anna reviewed=yes$/m,
    /^rows +1600$/m,
    /^parent +anomaly-\S+ 1$/m,
    /^offsets of telemetry +0:0-/m,
    /^parameter rowsShown +20000$/m,
    /^self-test +8 scores$/m,
    /^inputs are +a mean$/m,
  ])
    expect(shown).toMatch(line);
  const json = JSON.parse((await models('show', NAME, '2', '--json')).out) as { manifest: ModelManifest };
  expect(json.manifest).toEqual(second);

  const diff = (await models('diff', NAME, 'summer', 'champion')).out;
  expect(diff).toMatch(/^anomaly-\S+ +version 1 +version 2$/m);
  expect(diff).toMatch(/^rows +800 +1600$/m);
  expect(diff).toMatch(/^scores of \d+ rows of 2 vehicles$/m);
  expect(diff).toMatch(/^p99 +\d\S* +\d\S*$/m);
  expect(diff).not.toMatch(/^seed/m);

  for (const version of ['1', '2']) {
    const again = await models('reproduce', NAME, version);
    expect(again).toMatchObject({ code: 0, err: '' });
    expect(again.out).toMatch(
      /manifest\.json +\S+ +the same\nmodel\.json +\S+ +the same\nweights\.bin +\S+ +the same\n/,
    );
    expect(again.out).toContain(`${NAME} ${version} is reproduced: the same bytes`);
  }
});

test('a model that is not reproduced says why, and the exit status is 1', async () => {
  const trained = await train(1, 400);
  /** The next version, as another machine would have made it. */
  const publishOther = async (version: string, change: (manifest: ModelManifest) => void, seed = 1) => {
    const { lineage } = trained;
    const { files, manifest } = await trainModel(registry.log, {
      query: {
        signalSet: SET.id,
        offsets: lineage.offsets,
        eventOffsets: lineage.eventOffsets,
        rowsMax: Number(lineage.hyperParameters.rowsMax),
      },
      signalSet: SET,
      name: NAME,
      version,
      parent: null,
      createdAt: '2026-01-01T00:00:00.000Z',
      seed,
      hyperParameters: { rowsShown: 20_000 },
    });
    change(manifest);
    await publish(registry.url, {
      manifest,
      manifestBytes: Buffer.from(JSON.stringify(manifest)),
      modelBytes: files.model,
      weightsBytes: files.weights,
    });
  };
  const reproduced = async (version: string) => {
    const { code, out } = await models('reproduce', NAME, version, '--json');
    return { code, ...(JSON.parse(out) as Reproduction) };
  };

  await publishOther('2', ({ lineage }) => {
    lineage.seed = 2;
    lineage.codeVersion = '0.0.1';
  });
  expect(await reproduced('2')).toMatchObject({
    code: 1,
    equal: false,
    reasons: [expect.stringMatching(/^it was trained by version 0\.0\.1 of Cardan; this is /)],
  });

  await publishOther('3', ({ lineage }) => {
    lineage.offsets[0]!.to = 10_000;
  });
  expect(await reproduced('3')).toMatchObject({
    code: 1,
    reasons: [expect.stringMatching(/^the offsets 0 to 10000 of telemetry, partition 0, are not in the log/)],
    files: [{ again: null }, { again: null }, { again: null }],
  });

  await publish(registry.url, testModel('1'));
  const foreign = await models('reproduce', 'anomaly');
  expect(foreign.code).toBe(1);
  expect(foreign.out).toContain('anomaly 1 is not reproduced: its lineage has no windowRows');
});

test('it says what is wrong', async () => {
  await publish(registry.url, testModel('1'));
  const says = async (args: [string, ...string[]], words: string) => {
    const { code, err } = await models(...args);
    expect([code, err]).toEqual([1, expect.stringContaining(words)]);
    expect(err).not.toMatch(/^\s+at /m);
  };
  await says(['show', 'none'], '404 MODEL_UNKNOWN: There is no version or alias latest of the model none');
  await says(['show', 'anomaly', 'summer'], '404 MODEL_UNKNOWN');
  await says(['alias', 'anomaly', 'summer', '2'], '404 MODEL_UNKNOWN');
  await says(['alias', 'anomaly', '1', '1'], '422 LABEL_INVALID: "1" names a version already');
  await says(['alias', 'anomaly', 'champion'], '422 LABEL_INVALID: The champion is what the cars run');
});
