import type { Command } from 'commander';
import {
  loadModel,
  logConnection,
  logOptions,
  type LogFlags,
  numberBetween,
  parseManifest,
  problemPrinter,
  stopSignal,
  type Model,
} from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { differences, factsOf, inputNames } from './models/describe.ts';
import { exchangeCommands } from './models/exchange-commands.ts';
import { reproduce } from './models/reproduce.ts';
import { scoreShift, type ScoreShift } from './models/score-shift.ts';
import { printTable, shortNumber } from './table.ts';
import type { RegistryClient } from './registry-client.ts';
import { registryClient, registryOptions, type RegistryOptions } from './registry-options.ts';

interface JsonOption {
  json?: boolean;
}

/** Rows that `diff` scores with both models. */
const SAMPLE_ROWS = 20_000;

/** Adds `models list | show | diff | reproduce | alias | tag | import | export | card`. */
export function modelsCommand(program: Command): void {
  const models = program
    .command('models')
    .description('Models of the fleet, where they come from, and what names them (docs/models.md).');

  registryOptions(models.command('list'))
    .description('List the models, or all versions of one.')
    .argument('[name]')
    .option('--json', 'one JSON line each')
    .action(list);

  registryOptions(models.command('show'))
    .description('Show a version with its lineage.')
    .argument('<name>')
    .argument('[version]', 'a version, an alias, or latest', 'latest')
    .option('--json', 'the manifest, with aliases and tags')
    .action(show);

  logOptions(registryOptions(models.command('diff')))
    .description('In what two versions differ; with a log, also what they say of its newest rows.')
    .argument('<name>')
    .argument('<a>', 'a version or an alias')
    .argument('<b>')
    .option(
      '--rows <n>',
      'rows of the log that both score',
      numberBetween(1, 10_000_000, { whole: true }),
      SAMPLE_ROWS,
    )
    .option('--json', 'one JSON object')
    .action(diff);

  logOptions(registryOptions(models.command('reproduce')))
    .description(
      'Train a version again from the log by its own manifest, and compare the bytes. The exit status is 0 when they are equal.',
    )
    .argument('<name>')
    .argument('[version]', 'a version, an alias, or latest', 'latest')
    .option('--json', 'one JSON object')
    .action(reproduceCommand);

  registryOptions(models.command('alias'))
    .description(
      'Have an alias name a version. The champion is what all cars with its signals run: they change at once.',
    )
    .argument('<name>')
    .argument('<alias>', 'champion, candidate, or a name of your own')
    .argument('[version]', 'without one, the alias is taken away')
    .action(async (name: string, alias: string, version: string | undefined, options: RegistryOptions) => {
      await registryClient(options).setAlias(name, alias, version ?? null);
      const now = version === undefined ? 'names nothing now' : `is version ${version} now`;
      process.stderr.write(`${alias} of ${name} ${now}\n`);
    });

  registryOptions(models.command('tag'))
    .description('Set tags of a version; an empty value takes one away.')
    .argument('<name>')
    .argument('<version>')
    .argument('<tags...>', 'KEY=VALUE')
    .action(async (name: string, version: string, tags: string[], options: RegistryOptions) => {
      const values = tags.map((tag): [string, string | null] => {
        const at = tag.indexOf('=');
        return at === -1 ? [tag, null] : [tag.slice(0, at), tag.slice(at + 1) || null];
      });
      await registryClient(options).setTags({ name, version }, Object.fromEntries(values));
      process.stderr.write(`${name} ${version} is tagged\n`);
    });

  exchangeCommands(models);
}

async function list(
  name: string | undefined,
  { json = false, ...options }: RegistryOptions & JsonOption,
): Promise<void> {
  if (name === undefined) {
    const models = await registryClient(options).models();
    if (json) for (const model of models) process.stdout.write(`${JSON.stringify(model)}\n`);
    else if (models.length === 0) process.stderr.write('No model was published yet.\n');
    else
      printTable([
        ['MODEL', 'NEWEST', 'PUBLISHED', 'ROWS', 'THRESHOLD', 'ALIASES'],
        ...models.map(({ name, aliases, versions }) => {
          const newest = versions.at(-1);
          return [
            name,
            newest?.version ?? '',
            newest?.publishedAt ?? '',
            shortNumber(newest?.rows ?? 0),
            shortNumber(newest?.threshold ?? 0),
            Object.entries(aliases)
              .map(([alias, version]) => `${alias}=${version}`)
              .join(' '),
          ];
        }),
      ]);
    return;
  }
  const versions = await registryClient(options).versions(name);
  if (json) for (const version of versions) process.stdout.write(`${JSON.stringify(version)}\n`);
  else
    printTable([
      ['VERSION', 'ALIASES', 'PUBLISHED', 'ROWS', 'THRESHOLD', 'TAGS'],
      ...versions.map(({ version, aliases, publishedAt, rows, threshold, tags }) => [
        version,
        aliases.join(' '),
        publishedAt,
        shortNumber(rows),
        shortNumber(threshold),
        tagsText(tags),
      ]),
    ]);
}

async function show(
  name: string,
  word: string,
  { json = false, ...options }: RegistryOptions & JsonOption,
): Promise<void> {
  const registry = registryClient(options);
  const { version, aliases, tags } = await registry.labels(name, word);
  const manifest = parseManifest(await registry.manifest({ name, version }));
  if (json) {
    process.stdout.write(`${JSON.stringify({ manifest, aliases, tags }, null, 2)}\n`);
    return;
  }
  printTable([
    ['model', name],
    ['version', version],
    ['aliases', aliases.join(' ')],
    ['tags', tagsText(tags)],
    ...Object.entries(factsOf(manifest)).map(([fact, value]) => [fact, valueText(value)]),
    ...inputNames(manifest).map((input, i) => [i === 0 ? 'inputs are' : '', input]),
  ]);
}

async function diff(
  name: string,
  wordA: string,
  wordB: string,
  { json = false, rows, ...options }: RegistryOptions & JsonOption & LogFlags & { rows: number },
  command: Command,
): Promise<void> {
  const registry = registryClient(options);
  const [a, b] = [await registry.labels(name, wordA), await registry.labels(name, wordB)];
  const [modelA, modelB] = [await loaded(registry, name, a.version), await loaded(registry, name, b.version)];
  const found = differences(modelA.manifest, modelB.manifest);
  const hasLog = command.getOptionValueSource('log') !== undefined || options.kafka !== undefined;
  const scores = hasLog
    ? await withLog(command, options, (log) => scoreShift(log, modelA, modelB, rows))
    : undefined;
  if (json) {
    process.stdout.write(
      `${JSON.stringify({ name, a: a.version, b: b.version, differences: found, ...(scores === undefined ? {} : { scores }) }, null, 2)}\n`,
    );
    return;
  }
  printTable([
    [name, `version ${a.version}`, `version ${b.version}`],
    ...found.map(({ fact, a, b }) => [fact, valueText(a), valueText(b)]),
    ...(scores === undefined ? [] : scoreLines(scores)),
  ]);
  if (scores === undefined)
    process.stderr.write('With --log or --kafka both score the newest rows of the log, too.\n');
}

function scoreLines({ scored, vehicles, a, b, meanDifference }: ScoreShift): string[][] {
  return [
    ['', '', ''],
    [`scores of ${scored} rows of ${vehicles} vehicles`, '', ''],
    ...(['mean', 'p50', 'p99', 'max'] as const).map((figure) => [
      figure,
      shortNumber(a[figure]),
      shortNumber(b[figure]),
    ]),
    [
      'rows over the threshold',
      `${shortNumber(100 * a.overThreshold)} %`,
      `${shortNumber(100 * b.overThreshold)} %`,
    ],
    ['mean difference', '', shortNumber(meanDifference)],
  ];
}

async function reproduceCommand(
  name: string,
  word: string,
  { json = false, ...options }: RegistryOptions & JsonOption & LogFlags,
  command: Command,
): Promise<void> {
  const registry = registryClient(options);
  const { version } = await registry.labels(name, word);
  const bytes = await registry.manifest({ name, version });
  const result = await withLog(command, options, (log) =>
    reproduce(log, bytes, parseManifest(bytes), stopSignal()),
  );
  if (!result.equal) process.exitCode = 1;
  if (json) {
    process.stdout.write(`${JSON.stringify({ name, version, ...result })}\n`);
    return;
  }
  printTable([
    ['FILE', 'PUBLISHED', 'AGAIN'],
    ...result.files.map(({ file, published, again }) => [
      file,
      published.slice(0, 16),
      again === null ? 'not made' : again === published ? 'the same' : again.slice(0, 16),
    ]),
  ]);
  process.stdout.write(
    result.equal
      ? `${name} ${version} is reproduced: the same bytes\n`
      : `${name} ${version} is not reproduced: ${result.reasons.join('; ')}\n`,
  );
}

async function withLog<T>(
  command: Command,
  options: LogFlags,
  use: (log: EventLog) => Promise<T>,
): Promise<T> {
  const { url, kafka } = logConnection(command, options);
  const log = await openEventLog(url, { ...kafka, onProblem: problemPrinter() });
  try {
    return await use(log);
  } finally {
    await log.close();
  }
}

async function loaded(registry: RegistryClient, name: string, version: string): Promise<Model> {
  const manifest = await registry.manifest({ name, version });
  return loadModel({ ...(await registry.filesOf(parseManifest(manifest))), manifest });
}

function tagsText(tags: Record<string, string>): string {
  return Object.entries(tags)
    .map(([tag, value]) => `${tag}=${value}`)
    .join(' ');
}

function valueText(value: string | number | null): string {
  return value === null ? '' : typeof value === 'number' ? shortNumber(value) : value;
}
