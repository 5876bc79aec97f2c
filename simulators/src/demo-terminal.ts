import type { CardanError } from '@cardan/shared';
import type { DemoOptions, DemoSummary } from './demo-options.ts';
import type { LoopNews } from './loop-observer.ts';

/**
 * What a person sees: a few lines, one per thing that happened, on standard error. Standard output is left to
 * the summary, for scripts.
 */
export class DemoTerminal {
  private readonly out: NodeJS.WriteStream;
  private readonly started = performance.now();
  private readonly colour: boolean;
  private readonly problems = new Set<string>();
  private status = '';
  private training = '';
  private timer: NodeJS.Timeout | undefined;

  constructor(out: NodeJS.WriteStream) {
    this.out = out;
    this.colour = out.isTTY && process.env.NO_COLOR === undefined;
  }

  title({ vehicles, seed, speedup, dataDir, once }: DemoOptions): void {
    const where = dataDir === undefined ? 'temporary data' : `data in ${dataDir}`;
    this.out.write(
      `\n${this.bold('Cardan')}  ${vehicles} cars, ${speedup}× real time, seed ${seed}, ${where}` +
        `${once ? ', stops when the loop has closed twice' : ''}\n\n`,
    );
  }

  addresses(at: { page: string; api: string; mqtt: string; log: string; dataDir: string }): void {
    this.out.write(`  page   ${this.bold(at.page)}\n`);
    this.out.write(`  api    ${at.api}/openapi.json\n`);
    this.out.write(`  mqtt   ${at.mqtt}\n`);
    this.out.write(`  log    ${at.log}\n\n`);
  }

  /** What somebody who has read this far could try. */
  tryNext(mqttUrl: string, apiUrl: string): void {
    this.out.write(`\n  try    npx cardan-sim inject --mqtt ${mqttUrl} --kind slow-puncture\n`);
    this.out.write(`         curl ${apiUrl}/v1/models\n`);
    this.out.write(`         Ctrl-C stops everything\n\n`);
  }

  /** On a terminal, shows the rows in the log on a line of their own that is written over. */
  follow(rows: () => number): void {
    if (!this.out.isTTY) return;
    let before = rows();
    this.timer = setInterval(() => {
      const now = rows();
      this.status = `  ${now.toLocaleString('en')} rows in the log, ${(now - before).toLocaleString('en')} rows/s${this.training}`;
      before = now;
      this.out.write(`\r\x1b[K${this.dim(this.status)}`);
    }, 1000).unref();
  }

  news(news: LoopNews): void {
    if (news.kind === 'epoch') {
      const { epoch, epochs, loss, rowsPerSecond } = news.progress;
      this.training = `, epoch ${epoch} of ${epochs}, loss ${loss.toFixed(3)}, ${Math.round(rowsPerSecond).toLocaleString('en')} rows/s`;
    } else if (news.kind === 'trained' || news.kind === 'failed') this.training = '';
    const text = describe(news);
    if (text !== undefined) this.note(...text);
  }

  /** One line: seconds since the start, a word, and what there is to say. */
  note(word: string, text: string): void {
    const seconds = ((performance.now() - this.started) / 1000).toFixed(1);
    this.line(`${this.dim(`${seconds.padStart(6)} s`)}  ${this.bold(word.padEnd(10))} ${text}`);
  }

  /** A problem that goes on is told once. */
  problem(error: CardanError): void {
    const text = `${error.code}: ${error.message}`;
    if (this.problems.has(text) || this.problems.size > 50) return;
    this.problems.add(text);
    this.note('problem', text);
  }

  /** Lines of a child process: only problems are news here. */
  childSays(name: string, text: string): void {
    for (const line of text.split('\n'))
      if (/^[A-Z_]{4,}: /.test(line) && !this.problems.has(line) && this.problems.size <= 50) {
        this.problems.add(line);
        this.note(name, line);
      }
  }

  summary(summary: DemoSummary, once: boolean): void {
    const { rows, faults } = summary;
    clearInterval(this.timer);
    this.note(
      once ? summary.loop : 'stopped',
      `${rows.in_log.toLocaleString('en')} of ${rows.sent.toLocaleString('en')} rows in the log, ` +
        `${summary.models.length} models, ${faults.detected} of ${faults.injected} faults detected` +
        (summary.why === undefined ? '' : `; ${summary.why}`),
    );
  }

  private line(text: string): void {
    this.out.write(this.out.isTTY ? `\r\x1b[K${text}\n${this.dim(this.status)}` : `${text}\n`);
  }

  private bold(text: string): string {
    return this.colour ? `\x1b[1m${text}\x1b[0m` : text;
  }

  private dim(text: string): string {
    return this.colour ? `\x1b[2m${text}\x1b[0m` : text;
  }
}

function describe(news: LoopNews): [string, string] | undefined {
  switch (news.kind) {
    case 'training':
      return [
        'training',
        `${short(news.model)} on ${news.rows.toLocaleString('en')} rows of ${cars(news.vehicles)} (${news.reason})`,
      ];
    case 'trained':
      return [
        'trained',
        `${short(news.model.name)} version ${news.model.version} in ${news.seconds.toFixed(1)} s`,
      ];
    case 'failed':
      return ['failed', `${short(news.model)}: ${news.message}`];
    case 'installed': {
      const { manifest, installed } = news.model;
      // Every car is a line too many: the first, and when a quarter more of the fleet has it.
      const all = manifest.lineage.vehicles;
      if (news.vehicles !== 1 && news.vehicles < all && news.vehicles % Math.ceil(all / 4) !== 0)
        return undefined;
      return [
        'installed',
        `${short(manifest.name)} version ${manifest.version} on ${installed.size} of ${cars(all)}`,
      ];
    }
    case 'fault':
      return [
        'fault',
        `${news.fault.fault.kind} begins in ${news.fault.vehicle}, severity ${news.fault.fault.severity.toFixed(2)}`,
      ];
    case 'detected':
      return [
        'detected',
        `${news.fault.fault.kind} in ${news.fault.vehicle} after ${Math.round((news.fault.delayMs ?? 0) / 1000)} simulated s, blamed on ${news.fault.blamed ?? '?'}`,
      ];
    default:
      return undefined;
  }
}

/** Models are named after their signal set; the first digits tell them apart. */
function short(model: string): string {
  return model.slice(0, 'anomaly-'.length + 6);
}

function cars(count: number): string {
  return count === 1 ? '1 car' : `${count} cars`;
}
