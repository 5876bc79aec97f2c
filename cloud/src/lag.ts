import type { EventLog, PartitionLag } from '@cardan/shared/event-log';

/** Prints how far groups of readers are behind: a table for people, or a line of JSON per partition. */
export async function printLag(log: EventLog, only: string | undefined, json: boolean): Promise<void> {
  const groups = only === undefined ? (await log.groups()).sort() : [only];
  const rows: (PartitionLag & { group: string })[] = [];
  for (const group of groups) rows.push(...(await log.lag(group)).map((lag) => ({ group, ...lag })));
  if (json) {
    for (const row of rows) process.stdout.write(`${JSON.stringify(row)}\n`);
    return;
  }
  const cells = rows.map((row) =>
    [row.group, row.topic, row.partition, row.committed, row.latest, row.lag].map(String),
  );
  if (cells.length === 0) {
    process.stderr.write(
      only === undefined
        ? 'No group has read this log yet.\n'
        : `No group "${only}" has read this log yet.\n`,
    );
    return;
  }
  const table = [['GROUP', 'TOPIC', 'PARTITION', 'NEXT', 'END', 'LAG'], ...cells];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
  for (const line of table)
    process.stdout.write(
      `${line.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')}\n`,
    );
}
