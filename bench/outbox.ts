// Store and forward in the car: rows into the outbox, and out again after their acknowledgement.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Outbox } from '../agent/src/outbox.ts';

const ROWS = 200_000;
const SIGNALS = 25;
const context = { signalSet: 'bench', modelName: '', modelVersion: '' };
const values = new Float32Array(SIGNALS).fill(1.25);

for (const synchronous of ['NORMAL', 'FULL'] as const)
  for (const perCommit of [1, 100]) {
    const rows = perCommit === 1 ? ROWS / 10 : ROWS;
    const dir = mkdtempSync(join(tmpdir(), 'bench-outbox-'));
    const outbox = new Outbox({
      path: join(dir, 'outbox.db'),
      rowsMax: 10 * ROWS,
      eventsMax: 10,
      synchronous,
    });
    measure(`outbox_write_${synchronous.toLowerCase()}_${perCommit}_per_commit`, rows, () => {
      for (let row = 0; row < rows; row++) {
        outbox.addRow(row, values, 0.5, context);
        if (row % perCommit === perCommit - 1) outbox.flush();
      }
    });
    if (perCommit === 100 && synchronous === 'NORMAL')
      measure('outbox_read_and_acknowledge', rows, () => {
        for (let batch = outbox.oldestRows(1000); batch !== undefined; batch = outbox.oldestRows(1000))
          outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
      });
    outbox.close();
    rmSync(dir, { recursive: true });
  }

function measure(bench: string, items: number, work: () => void): void {
  const cpu = process.cpuUsage();
  const started = performance.now();
  work();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const figure = {
    bench,
    value: Math.round(items / seconds),
    unit: 'rows/s',
    cpu_us_per_item: +((user + system) / items).toFixed(3),
  };
  console.log(JSON.stringify({ ...figure, node: process.version }));
}
