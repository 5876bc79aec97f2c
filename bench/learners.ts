/**
 * Rows a second of the online learners, on one core, with 18 signals a row: k-means with 5 centers, half-space trees
 * (25 of height 8, each row scored and learned), ADWIN and Page-Hinkley on each signal; beside River on the same
 * stream where `python3` has it (pip install river). One JSON line per figure.
 *
 *   node --import tsx bench/learners.ts
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Adwin } from '../cloud/src/learner/adwin.ts';
import { DenStream } from '../cloud/src/learner/den-stream.ts';
import { HalfSpaceTrees } from '../cloud/src/learner/half-space-trees.ts';
import { PageHinkley } from '../cloud/src/learner/page-hinkley.ts';
import { SequentialKMeans } from '../cloud/src/learner/sequential-k-means.ts';
import { median, printFigure } from './parts/figure.ts';

const SIGNALS = 18;
const ROWS = 20_000;
const ROUNDS = 7;
/** The compiler of JavaScript works beside the first rounds, and its CPU would count as theirs. */
const WARM_UP_MS = 500;
const RIVER = fileURLToPath(new URL('peers/river-learners.py', import.meta.url));

interface Round {
  rows: number;
  seconds: number;
  cpu: number;
}

const stream = new Float64Array(ROWS * SIGNALS);
let state = 1;
for (let i = 0; i < stream.length; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  stream[i] = state / 2 ** 31 - 1;
}

const river = riverRounds();
const each = (step: (at: number) => void) => () => {
  for (let at = 0; at < stream.length; at += SIGNALS) step(at);
};
const kMeans = new SequentialKMeans({
  width: SIGNALS,
  clusters: 5,
  halfLife: 1000,
  seedRows: 200,
  seed: 1,
});
measure(
  'k_means',
  each((at) => kMeans.learn(stream, at)),
);
const trees = new HalfSpaceTrees({ width: SIGNALS });
measure(
  'half_space_trees',
  each((at) => trees.learn(stream, at)),
);
const detectors = Array.from({ length: SIGNALS }, () => new Adwin());
// As the log has them: some rows at a time, each signal a column.
const BLOCK = 100 * SIGNALS;
measure('adwin', () => {
  for (let at = 0; at < stream.length; at += BLOCK) {
    const block = stream.subarray(at, at + BLOCK);
    for (let i = 0; i < SIGNALS; i++) detectors[i]!.updateColumn(block, SIGNALS, i);
  }
});
const tests = Array.from({ length: SIGNALS }, () => new PageHinkley());
measure(
  'page_hinkley',
  each((at) => {
    for (let i = 0; i < SIGNALS; i++) tests[i]!.update(stream[at + i]!);
  }),
);
// The stream fills a cube evenly: so small a radius makes many micro-clusters of it, the worst that can come.
const density = new DenStream({ width: SIGNALS, epsilon: 2, microClustersMax: 100 });
measure(
  'den_stream',
  each((at) => density.learn(stream, at)),
);

/** Prints the median of several rounds, by CPU, behind some to warm up. */
function measure(name: string, run: () => void): void {
  const round = (): Round => {
    const before = process.cpuUsage();
    const begun = performance.now();
    run();
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(before);
    return { rows: ROWS, seconds, cpu: (user + system) / 1e6 };
  };
  for (const begun = performance.now(); performance.now() - begun < WARM_UP_MS;) round();
  const ours = median(Array.from({ length: ROUNDS }, round), ({ cpu }) => cpu);
  const peer = river.get(name);
  const perRow = ({ cpu, rows }: Round) => (cpu * 1e6) / rows;
  printFigure({
    bench: `learner_${name}`,
    value: ours.rows / ours.seconds,
    unit: 'rows/s',
    cpu_us_per_item: perRow(ours),
    ...(peer === undefined
      ? {}
      : {
          river_rows_per_s: peer.rows / peer.seconds,
          river_cpu_us_per_item: perRow(peer),
          times_river_by_cpu: perRow(peer) / perRow(ours),
        }),
  });
}

function riverRounds(): Map<string, Round> {
  const { status, stdout } = spawnSync('python3', [RIVER, String(ROWS)], { encoding: 'utf8' });
  if (status !== 0) {
    process.stderr.write('Skipping River: python3 has no river here (pip install river).\n');
    return new Map();
  }
  const rounds = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Round & { name: string });
  return new Map(rounds.map((round) => [round.name, round]));
}
