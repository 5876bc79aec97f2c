import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadModel, Scorer, selfTestOf, signalSet, type ModelManifest } from '@cardan/shared';
import { RegistryClient } from '../../src/registry-client.ts';
import { importModel } from '../../src/onnx/import-model.ts';
import { decodeOnnx } from '../../src/onnx/onnx-format.ts';
import { closeRegistries, openRegistry, type TestRegistry } from '../registry/registry-fixture.ts';
import { runCommand } from '../run-command.ts';

/** `cardan-cloud models import | export | card`, with networks that other programs' exporters wrote. */
const golden = JSON.parse(readFileSync(`${import.meta.dirname}/golden.json`, 'utf8')) as Record<
  string,
  { files: Record<string, string> }
>;
const TORCH = 'PyTorch plain, exporter';
const SIGNALS = ['Speed', 'Load', 'Voltage', 'Coolant', 'Oil', 'Intake'].map((name) => ({ name, unit: 'u' }));
const { id: SET } = signalSet(SIGNALS);

/** All that a trainer must write; the rest has defaults. */
const minimal = () => ({
  signalSet: { signals: SIGNALS },
  features: {
    windowRows: 3,
    inputs: SIGNALS.map((_, signal) => ({ signal, statistic: 'mean', center: 10 * signal, scale: 2 })),
  },
  score: { smoothingRows: 4, residualCenter: Array(6).fill(0), residualScale: Array(6).fill(0.5) },
  alarm: { threshold: 3 },
  lineage: {
    offsets: { 0: { from: 5, to: 900 } },
    span: { from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' },
    rows: 4000,
    vehicles: 3,
  },
});
type Given = ReturnType<typeof minimal> & Record<string, unknown>;

let registry: TestRegistry;
/** The files of an exporter, and a manifest, in a folder. */
function folder(name: string, manifest: object): { onnx: string; manifest: string; dir: string } {
  const dir = join(registry.dir, 'given');
  mkdirSync(dir, { recursive: true });
  for (const [file, base64] of Object.entries(golden[name]!.files))
    writeFileSync(join(dir, file), Buffer.from(base64, 'base64'));
  writeFileSync(join(dir, 'manifest.json'), JSON.stringify(manifest));
  return { onnx: join(dir, 'model.onnx'), manifest: join(dir, 'manifest.json'), dir };
}

const models = (...args: string[]) => runCommand(['models', ...args, '--registry', registry.url]);

async function imported(name: string, manifest: object, ...args: string[]) {
  const { onnx, manifest: path } = folder(name, manifest);
  return models('import', onnx, '--manifest', path, ...args);
}

describe('a network that another program trained', () => {
  beforeEach(async () => {
    registry = await openRegistry();
  });
  afterEach(closeRegistries);

  it('is published with defaults for what its manifest leaves out, as the next version of its signals', async () => {
    const first = await imported(TORCH, minimal());
    expect(first).toMatchObject({
      code: 0,
      err: expect.stringContaining(`anomaly-${SET} version 1: 6 inputs`) as string,
    });
    expect(JSON.parse(first.out)).toMatchObject({
      version: '1',
      rows: 4000,
      threshold: 3,
      scoreDifference: null,
    });
    expect((await imported('scikit-learn tanh, float', minimal())).out).toContain('"version":"2"');

    const client = new RegistryClient(registry.url);
    const bytes = await client.manifest({ name: `anomaly-${SET}`, version: '2' });
    const manifest = JSON.parse(bytes.toString('utf8')) as ModelManifest;
    expect(manifest).toMatchObject({
      signalSet: { id: SET },
      engine: 'dense',
      features: { gapMs: 5000, clip: 5 },
      alarm: { threshold: 3, raiseAfterRows: 5, clearBelow: 0.8 * 3, clearAfterRows: 30 },
      lineage: {
        topic: 'telemetry',
        offsets: { 0: { from: 5, to: 900 } },
        eventOffsets: {},
        codeVersion: 'skl2onnx 1.20.0',
        parent: { name: `anomaly-${SET}`, version: '1' },
      },
      metrics: { multiply_adds: 160 },
    });
    expect(manifest.lineage.hyperParameters.onnxSha256).toMatch(/^[0-9a-f]{64}$/);
    expect(manifest.selfTest!.scores).toHaveLength(8);
    // A car that downloads it now can score.
    const model = loadModel({ ...(await client.filesOf(manifest)), manifest: bytes });
    expect(
      new Scorer(model).pushRows(Float64Array.of(0, 1, 2, 3, 4, 5), new Float32Array(36)).at(-1),
    ).toBeGreaterThan(0);
    const desired = await fetch(`${registry.url}/v1/vehicles/car-1/desired?signalSet=${SET}`);
    expect(await desired.json()).toMatchObject({ active: { name: `anomaly-${SET}`, version: '2' } });
  });

  it('gets the next number, also after a version that has a name', async () => {
    const named = await imported(TORCH, { ...minimal(), version: 'spring' });
    expect(named.out).toContain('"version":"spring"');
    expect((await imported(TORCH, minimal())).out).toContain('"version":"1"');
    const again = await imported('scikit-learn tanh, float', { ...minimal(), version: '1' });
    expect(again).toMatchObject({ code: 1, err: expect.stringMatching(/^error MODEL_EXISTS: /) as string });
  });

  it('is compared with the scores that its manifest says', async () => {
    const { onnx, manifest: path } = folder(TORCH, minimal());
    const out = join(registry.dir, 'out');
    expect(await models('import', onnx, '--manifest', path, '--out', out)).toMatchObject({ code: 0 });
    const read = (file: string) => readFileSync(join(out, file));
    const model = loadModel({
      manifest: read('manifest.json'),
      model: read('model.json'),
      weights: read('weights.bin'),
    });
    const { scores } = selfTestOf(model, 7);
    const near = scores.map((score) => score * (1 + 4e-6));
    const good = await imported(TORCH, { ...minimal(), selfTest: { seed: 7, scores: near } });
    expect(good).toMatchObject({ code: 0 });
    const { scoreDifference } = JSON.parse(good.out) as { scoreDifference: number };
    expect(scoreDifference).toBeGreaterThan(1e-6);
    expect(scoreDifference).toBeLessThan(1e-5);
    const far = scores.map((score) => score + 1e-3);
    const bad = await imported(TORCH, { ...minimal(), selfTest: { seed: 7, scores: far } });
    expect(bad.code).toBe(1);
    expect(bad.err).toContain('SELF_TEST_FAILED');
    expect(bad.err).toContain('docs/python.md');
  });

  it('goes back out as ONNX, and has a card', async () => {
    await imported(TORCH, minimal(), '--name', 'van');
    const onnx = join(registry.dir, 'van.onnx');
    const written = await models('export', 'van', '--onnx', onnx);
    expect(written).toMatchObject({
      code: 0,
      err: expect.stringContaining('van version 1 is in ') as string,
    });
    expect(decodeOnnx(readFileSync(onnx)).metadataProps).toContainEqual({
      key: 'cardan_model',
      value: 'van',
    });

    const card = await models('card', 'van', 'champion');
    expect(card).toMatchObject({ code: 0, err: '' });
    for (const line of [
      /^# van 1$/m,
      /^\| rows \| 4000 \|$/m,
      /^- Speed mean$/m,
      /^- Threshold \*\*3\*\*: as its trainer set it\.$/m,
      /^\| offsets of `telemetry` \| 0:5-900 \|$/m,
      /imported from ONNX/,
    ])
      expect(card.out).toMatch(line);
    const served = await fetch(`${registry.url}/v1/models/van/versions/latest/MODEL.md`);
    expect(served.headers.get('content-type')).toBe('text/markdown; charset=utf-8');
    expect(await served.text()).toBe(card.out);
    expect((await fetch(`${registry.url}/v1/models/van/versions/2/MODEL.md`)).status).toBe(404);
    expect(await models('card')).toMatchObject({
      code: 2,
      err: expect.stringContaining('Name a model') as string,
    });
  });
});

describe('a network', () => {
  it.each<[string, (given: Given) => object, string]>([
    ['no features', (given) => ({ ...given, features: undefined }), 'manifest.features'],
    ['no offsets', (given) => ({ ...given, lineage: { rows: 1 } }), 'manifest.lineage.offsets is missing'],
    ['no lineage', (given) => ({ ...given, lineage: undefined }), 'manifest.lineage'],
    [
      'too few spreads',
      (given) => ({ ...given, score: { ...given.score, residualScale: [1] } }),
      'residualScale',
    ],
    [
      'five inputs for six',
      ({ features, score, ...given }) => ({
        ...given,
        features: { ...features, inputs: features.inputs.slice(1) },
        score: { ...score, residualCenter: [0, 0, 0, 0, 0], residualScale: [1, 1, 1, 1, 1] },
      }),
      'the manifest has 5 inputs',
    ],
    ['a field that is not known', (given) => ({ ...given, treshold: 1 }), 'manifest.treshold is not known'],
    [
      'an id of other signals',
      (given) => ({ ...given, signalSet: { ...given.signalSet, id: '0123456789abcdef' } }),
      'signalSet',
    ],
  ])('with %s in the manifest is refused, naming the field', async (_, change, words) => {
    const file = (name: string) => Buffer.from(golden[TORCH]!.files[name]!, 'base64');
    const manifest = Buffer.from(JSON.stringify(change(minimal())));
    const newest = () => Promise.resolve(null);
    await expect(
      importModel({ onnx: file('model.onnx'), external: file, manifest, newest, now: 0 }),
    ).rejects.toMatchObject({ code: 'MODEL_INVALID', message: expect.stringContaining(words) as string });
  });
});
