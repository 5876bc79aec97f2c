import { setTimeout as wait } from 'node:timers/promises';
import {
  CardanError,
  checkSelfTest,
  isEvent,
  loadAnyModel,
  recordToEvent,
  simdNetwork,
  type Model,
  type ModelPublished,
  type ModelRef,
} from '@cardan/shared';
import type { EventLog, LogRecord, Offsets } from '@cardan/shared/event-log';
import type { RegistryClient } from '../registry-client.ts';

/** At the start, versions of a signal set that are tried, newest first: when one is unfit, one before it scores. */
const VERSIONS_TRIED = 5;
/** A registry that is not there yet is asked again after so long, then after twice as long, and so on. */
const RETRY_MS_FIRST = 500;
const RETRY_MS_MAX = 30_000;

export interface NewestModelsOptions {
  log: EventLog;
  registry: RegistryClient;
  signal: AbortSignal;
  onProblem: (error: CardanError) => void;
}

/**
 * The newest usable model of each signal set, as the log tells. One that cannot be used is told of once, and the one
 * before goes on. A registry that does not answer is waited for.
 */
export class NewestModels {
  private readonly options: NewestModelsOptions;
  private readonly models = new Map<string, Model>();
  /** Versions that are on trial: they score when all vehicles of their signal set should run them. */
  private readonly trials = new Map<string, ModelPublished>();

  constructor(options: NewestModelsOptions) {
    this.options = options;
  }

  of(signalSet: string): Model | undefined {
    return this.models.get(signalSet);
  }

  /** Loads those that are published; resolves to where `follow` goes on. */
  async open(): Promise<Offsets> {
    const { log } = this.options;
    const end = await log.resolve('models', 'latest');
    const published = new Map<string, ModelPublished[]>();
    for await (const { records } of log.read('models', { from: 'earliest', to: end }))
      for (const model of this.publishedIn(records)) {
        const versions = published.get(model.manifest.signalSet.id) ?? [];
        published.set(model.manifest.signalSet.id, [model, ...versions].slice(0, VERSIONS_TRIED));
      }
    for (const versions of published.values())
      for (const model of versions) if (await this.load(model)) break;
    return end;
  }

  /** Until the signal. */
  async follow(from: Offsets): Promise<void> {
    const { log, signal } = this.options;
    for await (const { records } of log.read('models', { from, signal }))
      for (const model of this.publishedIn(records)) await this.load(model);
  }

  /** Resolves to whether it is in use now. */
  private async load({ manifest, manifestSha256 }: ModelPublished): Promise<boolean> {
    const { registry, signal, onProblem } = this.options;
    for (let retryMs = RETRY_MS_FIRST; ; retryMs = Math.min(2 * retryMs, RETRY_MS_MAX)) {
      try {
        const model = await loadAnyModel(await registry.download(manifest, manifestSha256));
        checkSelfTest(model);
        // One network for all vehicles: a copy for each would not fit into the processor's cache.
        model.network ??= simdNetwork(model.layers);
        this.models.set(manifest.signalSet.id, model);
        return true;
      } catch (error) {
        if (!(error instanceof CardanError)) throw error;
        const isThere = error.code !== 'HTTP_UNREACHABLE';
        if (isThere || retryMs === RETRY_MS_FIRST) onProblem(error);
        if (isThere || signal.aborted) return false;
      }
      await wait(retryMs, undefined, { signal });
    }
  }
  private publishedIn(records: readonly LogRecord[]): ModelPublished[] {
    const nameOf = ({ name, version }: ModelRef) => `${name} ${version}`;
    return records.flatMap((record) => {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.model.published')) {
        if (event.data.trial !== true) return [event.data];
        this.trials.set(nameOf(event.data.manifest), event.data);
      } else if (isEvent(event, 'io.cardan.rollout.decided')) {
        const name = nameOf(event.data.active);
        const chosen = this.trials.get(name);
        this.trials.delete(name);
        if (chosen !== undefined) return [chosen];
      }
      return [];
    });
  }
}
