import { operationsOf, type ModelManifest } from '@cardan/shared';

/** Fact → value, in the order in which it is to be read. */
export type Facts = Record<string, string | number>;

/** What is to be known of a model, from its manifest. */
export function factsOf(manifest: ModelManifest): Facts {
  const { signalSet, engine, features, score, alarm, files, lineage, metrics, selfTest } = manifest;
  return {
    created: manifest.createdAt,
    'signal set': `${signalSet.id} (${signalSet.signals.length} signals)`,
    engine,
    'multiply-adds a row': operationsOf(manifest),
    inputs: features.inputs.length,
    'window, rows': features.windowRows,
    'smoothing, rows': score.smoothingRows,
    clip: features.clip,
    threshold: alarm.threshold,
    'alarm after, rows': alarm.raiseAfterRows,
    'cleared below': alarm.clearBelow,
    'cleared after, rows': alarm.clearAfterRows,
    rows: lineage.rows,
    vehicles: lineage.vehicles,
    'rows left out': lineage.rowsExcluded,
    'copies dropped': lineage.duplicatesDropped,
    from: lineage.span.from,
    to: lineage.span.to,
    [`offsets of ${lineage.topic}`]: rangesText(lineage.offsets),
    'offsets of vehicle-events': rangesText(lineage.eventOffsets),
    ...Object.fromEntries(
      (lineage.findings ?? []).map(({ signal, kind, value }) => [`finding ${kind} ${signal}`, value]),
    ),
    ...(lineage.times === undefined
      ? {}
      : { 'times asked for': `${lineage.times.from ?? 'begin'} to ${lineage.times.to ?? 'end'}` }),
    ...(lineage.labels === undefined
      ? {}
      : { [`offsets of ${lineage.labels.topic}`]: rangesText(lineage.labels.offsets) }),
    seed: lineage.seed,
    'code version': lineage.codeVersion,
    parent: lineage.parent === null ? 'none' : `${lineage.parent.name} ${lineage.parent.version}`,
    ...prefixed('parameter', lineage.hyperParameters),
    ...prefixed('metric', metrics),
    'self-test': selfTest === undefined ? 'none' : `${selfTest.scores.length} scores`,
    'model.json': files['model.json'].sha256,
    'weights.bin': files['weights.bin'].sha256,
  };
}

/** `Vehicle.Speed mean`, `Fuel ratio over Vehicle.Speed`, per input of the network. */
export function inputNames({ features, signalSet }: ModelManifest): string[] {
  const name = (signal: number) => signalSet.signals[signal]?.name ?? String(signal);
  return features.inputs.map(
    ({ signal, statistic, over }) =>
      `${name(signal)} ${statistic}${over === undefined ? '' : ` over ${name(over)}`}`,
  );
}

export interface Difference {
  fact: string;
  a: string | number | null;
  b: string | number | null;
}

/** The facts in which two models differ. Of inputs only those that one of them lacks. */
export function differences(a: ModelManifest, b: ModelManifest): Difference[] {
  const [factsA, factsB] = [factsOf(a), factsOf(b)];
  const facts = [...new Set([...Object.keys(factsA), ...Object.keys(factsB)])];
  const changed = facts.flatMap((fact): Difference[] =>
    factsA[fact] === factsB[fact] ? [] : [{ fact, a: factsA[fact] ?? null, b: factsB[fact] ?? null }],
  );
  const [inputsA, inputsB] = [inputNames(a), inputNames(b)];
  const only = (names: string[], others: string[]) => names.filter((name) => !others.includes(name));
  return [
    ...changed,
    ...only(inputsA, inputsB).map((name) => ({ fact: `input ${name}`, a: 'yes', b: null })),
    ...only(inputsB, inputsA).map((name) => ({ fact: `input ${name}`, a: null, b: 'yes' })),
  ];
}

function prefixed(prefix: string, values: Record<string, number | string>): Facts {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${prefix} ${name}`, value]));
}

function rangesText(ranges: ModelManifest['lineage']['offsets']): string {
  return Object.entries(ranges)
    .map(([partition, { from, to }]) => `${partition}:${from}-${to}`)
    .join(',');
}
