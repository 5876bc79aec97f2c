import { operationsOf, type ModelManifest } from '@cardan/shared';
import { findingText } from '../trainer/finding-text.ts';
import { boundText } from '../trainer/false-alarms.ts';
import { inputNames } from './describe.ts';

/** What figures of a manifest say. Others are shown under their own name. */
const FIGURES: Readonly<Record<string, string>> = {
  loss: 'loss on the rows trained on (mean squared error of standardised inputs)',
  validation_loss: 'loss on held-back rows',
  epochs: 'times that the rows were shown',
  training_rows: 'rows with full windows',
  held_back_rows: 'held-back rows by which spreads and threshold were found',
  held_back_score_max: 'highest score of held-back normal rows',
  signals_used: 'inputs of the network',
  signals_constant: 'signals that never changed',
  signals_missing: 'signals that were hardly seen',
  repairs: 'repairs, or flagged failures, that the model was judged by',
  repairs_foretold: 'of those, how many an alarm came before',
  repair_lead_hours: 'median time from alarm to repair or failure, hours',
  alarms: 'alarms on the rows trained on',
  alarms_without_repair: 'of those, how many no repair or failure followed',
  repairs_f1: 'F1 of alarms and repairs (or failures), at the threshold',
  threshold_f1: 'F1 of alarms and repairs, at the threshold that was chosen by them',
  threshold_without_labels: 'the threshold that it would have had without them',
  false_alarm_hours: 'vehicle-hours of held-back rows in which false alarms were counted',
  false_alarms: 'false alarms in these hours, at the threshold',
  false_alarms_per_100_hours_upper: 'most false alarms in 100 vehicle-hours, with 95 % confidence',
  threshold_without_bound: 'the threshold that it would have had without the bound of false alarms',
  multiply_adds: 'multiply-adds of one row',
};
/** Detectors without a network, beside which a model has to stand, by the beginning of their figures; see `TrivialDetectors`. */
const PEER = /^(max_z|mahalanobis|t2_q)_/;
const PEERS: Readonly<Record<string, string>> = {
  max_z: 'largest deviation of one input, in standard deviations (max |z|)',
  mahalanobis: 'Mahalanobis distance from the mean',
  t2_q: 'T² within the principal components, Q beside them',
};
/** What is said of each of them. */
const PEER_FIGURES: Readonly<Record<string, string>> = {
  alarm_rate: 'part of the held-back rows over a limit that 1 % of the rows trained on exceed',
  repairs_f1: 'F1 of alarms and repairs, at the limit that suits it best',
};

/**
 * `MODEL.md`: the model card (Mitchell et al., "Model cards for model reporting", 2019) of a published version. It follows
 * from the manifest alone, so it is made when it is asked for and never stored.
 */
export function modelCard(manifest: ModelManifest): string {
  const { name, version, signalSet, features, score, alarm, lineage, metrics } = manifest;
  const used = new Set(features.inputs.map(({ signal }) => signal));
  const out = signalSet.signals.filter((_, signal) => !used.has(signal));
  const peers = Object.entries(metrics).filter(([metric]) => PEER.test(metric));
  const others = Object.entries(metrics).filter(([metric]) => !PEER.test(metric));
  const sections = [
    `# ${name} ${version}`,
    `Anomaly scores for vehicles that send the signal set \`${signalSet.id}\` (${counted(signalSet.signals.length, 'signal')}). ` +
      `Made ${manifest.createdAt}. This page is made from the model's manifest.`,

    '## Use',
    'It says of each row of telemetry how unlike normal driving it is, in the car or in the cloud, so that somebody looks ' +
      'before a part fails. The signals that add most to a score say where to look. It is no diagnosis, and nothing in it is ' +
      'fit to act on the vehicle by itself.',

    '## Data',
    table(['what', ''], dataFacts(manifest)),

    '## Signals',
    `Used: ${counted(used.size, 'signal')}, ${counted(features.inputs.length, 'input')}. Statistics are over ` +
      `${counted(features.windowRows, 'row')}; a silence of more than ${number(features.gapMs / 1000)} s begins anew.`,
    bullets(inputNames(manifest)),
    out.length === 0
      ? 'No signal is left out.'
      : `Left out: ${counted(out.length, 'signal')}, which a fault in them alone does not reach.`,
    bullets(out.map((signal) => signal.name)),
    findingsText(lineage),
    bullets((lineage.findings ?? []).map(findingText)),

    '## How it decides',
    bullets([
      `A network (engine \`${manifest.engine}\`, ${number(operationsOf(manifest))} multiply-adds a row) gives back what each ` +
        'input should be, given the others.',
      `The differences, averaged over ${counted(score.smoothingRows, 'row')} and taken in spreads of normal rows, are the score.`,
      `Threshold **${number(alarm.threshold)}**: ${thresholdText(manifest)}`,
      `${counted(alarm.raiseAfterRows, 'row')} in succession over it raise an alarm; ${alarm.clearAfterRows} below ` +
        `${number(alarm.clearBelow)} clear it.`,
    ]),

    '## Figures',
    others.length === 0
      ? 'The manifest has none.'
      : table(
          ['figure', 'value', 'what'],
          others.map(([metric, value]) => [metric, number(value), FIGURES[metric] ?? '']),
        ),
    peers.length === 0
      ? 'The manifest has no figures of simpler detectors (largest |z|, Mahalanobis) on the same rows to compare these with.'
      : `Simpler detectors on the same rows:\n\n${table(
          ['figure', 'value', 'what'],
          peers.map(([metric, value]) => [metric, number(value), peerText(metric)]),
        )}`,

    '## Limits',
    bullets(limits(manifest)),

    '## Where it comes from',
    table(
      ['what', ''],
      [
        ['parent', lineage.parent === null ? 'none' : `${lineage.parent.name} ${lineage.parent.version}`],
        [`offsets of \`${lineage.topic}\``, ranges(lineage.offsets)],
        ['offsets of `vehicle-events`', ranges(lineage.eventOffsets)],
        ...(lineage.labels === undefined
          ? []
          : [
              [
                `offsets of \`${lineage.labels.topic}\`${flagText(lineage.labels)} (judged by, not trained on)`,
                ranges(lineage.labels.offsets),
              ],
            ]),
        ['seed', String(lineage.seed)],
        ['code version', lineage.codeVersion],
        ...Object.entries(lineage.hyperParameters).map(([key, value]) => [
          `parameter ${key}`,
          typeof value === 'number' ? number(value) : value,
        ]),
        [
          'self-test',
          manifest.selfTest === undefined ? 'none' : counted(manifest.selfTest.scores.length, 'score'),
        ],
        ['model.json', `\`${manifest.files['model.json'].sha256}\``],
        ['weights.bin', `\`${manifest.files['weights.bin'].sha256}\``],
      ],
    ),

    '## To make it again',
    imported(manifest)
      ? `It was trained outside of Cardan (${lineage.codeVersion}) and imported from ONNX; train it again with the program that made ` +
        'it, on the offsets above.'
      : 'With the log that it was trained on:\n\n' +
        `\`\`\`sh\ncardan-cloud models reproduce ${name} ${version} --log LOG\n\`\`\``,
  ];
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`;
}

function dataFacts({ lineage, metrics }: ModelManifest): string[][] {
  const { span, times } = lineage;
  const hours = (Date.parse(span.to) - Date.parse(span.from)) / 3_600_000;
  return [
    ['first and last row', `${span.from} to ${span.to} (${number(Number(hours.toPrecision(3)))} h)`],
    ...(times === undefined ? [] : [['times asked for', `${times.from ?? 'begin'} to ${times.to ?? 'end'}`]]),
    ['rows', number(lineage.rows)],
    ['vehicles', number(lineage.vehicles)],
    ['rows left out, near alarms', number(lineage.rowsExcluded)],
    ['copies dropped', number(lineage.duplicatesDropped)],
    ['held-back rows', metrics.held_back_rows === undefined ? 'not said' : number(metrics.held_back_rows)],
  ];
}

function findingsText({ findings }: ModelManifest['lineage']): string {
  if (findings === undefined)
    return 'The manifest does not say whether signals were missing, constant, stuck or ridden by outliers.';
  return findings.length === 0
    ? 'No signal was missing, constant, stuck or ridden by outliers.'
    : 'Odd in the rows trained on:';
}

function thresholdText({ alarm, lineage, metrics }: ModelManifest): string {
  const bound = boundText(lineage.hyperParameters.falseAlarmsPer100Hours, metrics);
  if (bound !== undefined)
    return (
      `by a bound of false alarms. ${bound.charAt(0).toUpperCase()}${bound.slice(1)}. These are the rows that it was ` +
      `chosen on. Without the bound it would be ${number(metrics.threshold_without_bound ?? alarm.threshold)}. ` +
      (lineage.labels === undefined
        ? 'No labels were used.'
        : `Alarms that labels (\`${lineage.labels.topic}\`) explain are not among the false ones.`)
    );
  if (lineage.labels?.threshold === true)
    return (
      `the one with the best F1 on labels (\`${lineage.labels.topic}\`), so what they say of the model is no judgement by ` +
      `others. Without labels it would be ${number(metrics.threshold_without_labels ?? alarm.threshold)}.`
    );
  const highest = metrics.held_back_score_max;
  if (highest === undefined || highest <= 0) return 'as its trainer set it.';
  const factor = Number((alarm.threshold / highest).toPrecision(3));
  return (
    `${number(factor)} times the highest score (${number(highest)}) of normal rows that the network had not seen. ` +
    (lineage.vehicles < 8
      ? 'With so few vehicles the highest of their scores says little of the next one. '
      : '') +
    (lineage.labels === undefined
      ? 'No labels were used.'
      : `Labels (\`${lineage.labels.topic}\`) judged it only.`)
  );
}

function flagText({ flag }: NonNullable<ModelManifest['lineage']['labels']>): string {
  return flag === undefined ? '' : `, flag \`${flag}\``;
}

function peerText(metric: string): string {
  const peer = Object.keys(PEERS).find((name) => metric.startsWith(`${name}_`));
  if (peer === undefined) return '';
  const figure = metric.slice(peer.length + 1);
  return `${PEERS[peer]!}: ${PEER_FIGURES[figure] ?? figure}`;
}

function limits({ signalSet, features, score, lineage, selfTest }: ModelManifest): string[] {
  const rows = features.windowRows + score.smoothingRows - 1;
  return [
    `Only for vehicles with exactly these ${counted(signalSet.signals.length, 'column')}, in this order.`,
    `What did not occur between ${lineage.span.from} and ${lineage.span.to} (seasons, loads, roads) may alarm although nothing is broken.`,
    `A fault that was there in most of the ${counted(lineage.vehicles, 'vehicle')} already counts as normal.`,
    `The first ${rows - 1} rows after a start or a gap have no score; a glitch of a row or two is averaged away.`,
    'A signal that is not seen counts as normal.',
    ...(selfTest === undefined ? ['It has no self-test: a car checks only that its scores are finite.'] : []),
  ];
}

function imported({ lineage }: ModelManifest): boolean {
  return lineage.hyperParameters.onnxSha256 !== undefined;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** At most six digits: more are noise. */
function number(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

function bullets(lines: readonly string[]): string {
  return lines.map((line) => `- ${inline(line)}`).join('\n');
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => inline(cell).replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...lines.map(line)].join('\n');
}

/** Names in a manifest are anybody's: no line breaks, and no HTML where the page is shown. */
function inline(text: string): string {
  return text.replace(/[\r\n]+/g, ' ').replaceAll('<', '&lt;');
}

function ranges(offsets: ModelManifest['lineage']['offsets']): string {
  const all = Object.entries(offsets).map(([partition, { from, to }]) => `${partition}:${from}-${to}`);
  return all.length === 0 ? 'none' : all.join(', ');
}
