// The whole loop: `npm start -- --once` with 20 cars, as a user runs it; CPU of all its processes.
import { spawnSync } from 'node:child_process';

const started = performance.now();
// The shell's `times` tells the CPU of all processes that have ended: the demo, the fleet and the cloud.
const command = `"${process.execPath}" simulators/bin/cardan-sim.js demo --once --port 0; status=$?; times >&2; exit $status`;
const run = spawnSync('sh', ['-c', command], {
  cwd: new URL('..', import.meta.url),
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'pipe'],
});
const seconds = (performance.now() - started) / 1000;
const last = run.stdout.trim().split('\n').at(-1) ?? '';
if (run.status !== 0) {
  console.error(run.stderr);
  console.error(last);
  process.exit(1);
}
interface Summary {
  rows: { in_log: number };
  seconds: { train: number; install: number; total: number };
  faults: { detected: number; injected: number; median_delay_s: number };
}
const summary = JSON.parse(last) as Summary;
const figures: [string, number, string][] = [
  ['loop_total', +seconds.toFixed(1), 's'],
  ['loop_train', summary.seconds.train, 's'],
  ['loop_install', summary.seconds.install, 's'],
  ['loop_rows_in_log', summary.rows.in_log, 'rows'],
  ['loop_median_detection_delay', summary.faults.median_delay_s, 'simulated s'],
];
const cpuSeconds = [...(run.stderr.trim().split('\n').at(-1) ?? '').matchAll(/(\d+)m([\d.]+)s/g)].reduce(
  (sum, [, minutes, rest]) => sum + Number(minutes) * 60 + Number(rest),
  0,
);
figures.push(['loop_cpu', +cpuSeconds.toFixed(1), 's']);
figures.push(['loop_cpu_per_row', +((cpuSeconds * 1e6) / summary.rows.in_log).toFixed(0), 'us/row']);
for (const [bench, value, unit] of figures)
  console.log(JSON.stringify({ bench, value, unit, node: process.version }));
