import type { FeatureSpec, LayersModelFiles, SignalFinding, SignalSet } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import type { TrainingState } from './adam.ts';
import { checkLoss } from './leave-one-out-training.ts';
import { Corruption } from './corruption.ts';
import type { EpochProgress } from './cross-fit.ts';
import { denseEngine } from './dense-engine.ts';
import { chooseInputs, extractFeatures } from './feature-choice.ts';
import { gapOf, type Fit } from './fit.ts';
import { hiddenUnits } from './hidden-units.ts';
import type { HyperParameters } from './hyper-parameters.ts';
import { decay } from './learning-rate.ts';
import { LogRows, readAlarms, type RowQuery } from './log-rows.ts';
import { engineOf, networkOf, windowInputs } from './network-spec.ts';
import type { NetworkTraining } from './network-training.ts';
import { orderedRecords } from './ordered-records.ts';
import { RowSample } from './row-sample.ts';
import { RowSplit } from './row-split.ts';
import { insufficient, meansOf, ROWS_MIN, scoringOf } from './scoring.ts';
import { SeededRandom } from './seeded-random.ts';
import { SignalSurvey } from './signal-survey.ts';
import { askedInputs, lineageOf, STREAM_HYPER_PARAMETERS, type StreamSettings } from './stream-settings.ts';
import { trainingBlocks } from './training-blocks.ts';
import type { TrainingData } from './training-data.ts';
import { fitTrivial } from './trivial-detectors.ts';
import { Turns } from './turns.ts';

/** How far a streamed training has got; with it, it goes on to the same bytes. */
export interface StreamPosition {
  /** 1-based; over the number of epochs when all are done. */
  epoch: number;
  /** Of this epoch: blocks that were trained on, their rows, and the sum of the rows' losses. */
  blocks: number;
  rows: number;
  lossSum: number;
  state: TrainingState;
  best: BestEpoch | undefined;
}

export interface BestEpoch {
  epoch: number;
  loss: number;
  validationLoss: number;
  files: LayersModelFiles;
}

export interface StreamProgress {
  /** 0 is the survey, before the first epoch. */
  epoch: number;
  epochs: number;
  /** Of this pass over the span: rows, and the records that are still to be read, of all. */
  rows: number;
  /** About how many an epoch has; 0 in the survey. */
  rowsExpected: number;
  recordsLeft: number;
  records: number;
  /** Mean of the epoch so far; NaN in the survey. */
  loss: number;
}

export interface StreamedFitOptions {
  signalSet: SignalSet;
  query: RowQuery;
  seed: number;
  settings: StreamSettings;
  /** A signal of the set that the network must not see: it is a label. */
  leftOut?: string | undefined;
  hyperParameters?: Partial<HyperParameters> | undefined;
  resume?: StreamPosition | undefined;
  signal?: AbortSignal | undefined;
  /** Told of what is odd about signals, and of rows of other signal sets in the span, once they are known. */
  onFindings?: ((findings: SignalFinding[], others: ReadonlyMap<string, number>) => void) | undefined;
  /** Told once, before the first epoch: what goes in, and how many epochs there will be at most. */
  onData?: ((rows: number, vehicles: number, epochs: number) => void | Promise<void>) | undefined;
  onEpoch?: ((progress: EpochProgress) => void | Promise<void>) | undefined;
  /** Told after each block; to be quick. */
  onProgress?: ((progress: StreamProgress) => void) | undefined;
  /** To be kept: after each epoch, now and then within one, and when the signal has aborted. */
  onPosition?: ((position: StreamPosition) => Promise<void>) | undefined;
}

export interface StreamedFit {
  fit: Fit;
  split: RowSplit;
  /** `findings` is of what was surveyed as a stream. */
  data: Omit<TrainingData, 'vehicles' | 'rowsOverMax'> & { vehicles: number; findings?: SignalFinding[] };
}

/** A training that is killed has lost at most this much of its work. */
const POSITION_EVERY_MS = 30_000;
/** Rows between two looks at the clock. */
const VALIDATION_ROWS = 1000;
const EPOCHS_MAX = 120;
/** Beside the seed itself, so that what is drawn for one purpose says nothing of another. */
const [OF_SPLIT, OF_SAMPLE, OF_WEIGHTS, OF_ORDER, OF_NOISE] = [1, 2, 3, 4, 5] as const;

/**
 * Any span of the log → a model, in bounded memory. A first pass surveys the signals and takes a sample, from which
 * features are chosen and standardised; each epoch is one more pass, in which every row goes through the network once;
 * and the held-back part of the sample gives residual spread and threshold, by the same code as `fit`.
 *
 * Nothing of a pass has to be kept to go on later: the same query gives the same blocks, so a training that is taken up
 * again passes over those that it has had. Everything random comes from the seed and the place in the stream.
 *
 * Throws TRAINING_DATA_INSUFFICIENT, TRAINING_DIVERGED; the signal's reason when aborted.
 */
export async function streamedFit(log: EventLog, options: StreamedFitOptions): Promise<StreamedFit> {
  const { signalSet, query, seed, settings, signal } = options;
  const parameters = { ...STREAM_HYPER_PARAMETERS, ...options.hyperParameters };
  const turns = new Turns(signal);
  const signals = signalSet.signals.length;
  // Before the log is read: what is wrong in a configuration is said at once.
  const asked = askedInputs(settings, signalSet, options.leftOut);
  const alarms = await readAlarms(log, query.eventOffsets);
  const seen = await survey(log, options, alarms);
  const split = new RowSplit([...seen.vehicles.keys()].sort(), seen.sample, {
    seed: seedOf(seed, OF_SPLIT),
    part: settings.heldBackPart,
  });
  const { training, heldBack } = split.both(seen.sample);
  if (training.length === 0 || heldBack.length === 0) throw insufficient(seen.rows);

  const gapMs = gapOf(seen.sample);
  const choice = await chooseInputs(training, signals, gapMs, parameters, turns, asked);
  const features: FeatureSpec = {
    windowRows: parameters.windowRows,
    gapMs,
    inputs:
      settings.network === undefined ? choice.inputs : windowInputs(choice.inputs, parameters.windowRows),
    clip: parameters.clip,
  };
  const width = features.inputs.length;
  const sampled = await extractFeatures(training, signals, features, turns);
  const validation = await extractFeatures(heldBack, signals, features, turns);
  if (sampled.length < ROWS_MIN * width) throw insufficient(sampled.length / width);
  if (validation.length === 0) throw insufficient(0);

  const rowsTrained = seen.trainedOn(split);
  const epochs =
    settings.epochs > 0
      ? settings.epochs
      : Math.min(EPOCHS_MAX, Math.max(1, Math.round(parameters.rowsShown / rowsTrained)));
  await options.onData?.(seen.rows, seen.vehicles.size, epochs);
  const hidden = settings.hidden.length > 0 ? settings.hidden : hiddenUnits(width, parameters);
  const engine =
    settings.network === undefined
      ? denseEngine(width, hidden)
      : await engineOf(settings.network, { rows: parameters.windowRows, columns: choice.inputs.length });
  const begun = await engine.begin(new SeededRandom(seedOf(seed, OF_WEIGHTS)));
  let best: BestEpoch;
  try {
    best = await train(
      log,
      begun,
      { options, parameters, alarms, split, features, epochs, rowsTrained, validation },
      turns,
    );
  } finally {
    begun.close();
  }

  const network = await networkOf(engine, best.files);
  const means = meansOf([sampled], width);
  const { score, alarm, rows, highest } = await scoringOf(
    [{ spans: heldBack, network, means }],
    { signals, features, parameters, means, vehicles: split.vehiclesHeldBack },
    turns,
  );
  network.close?.();
  // Nor does a label count as a signal that stands still.
  const label = signalSet.signals.findIndex(({ name }) => name === options.leftOut);
  if (label >= 0 && score.standstill !== undefined) score.standstill.afterRows[label] = 0;
  // A network that looks at single rows of its window is held against the means of the window.
  const trivial = await fitTrivial(
    training,
    heldBack,
    signals,
    { ...features, inputs: choice.inputs },
    turns,
  );
  const of = (kind: SignalFinding['kind']) => seen.findings.filter((finding) => finding.kind === kind).length;
  return {
    fit: {
      engine: engine.name,
      features,
      score,
      alarm,
      modelJson: best.files.modelJson,
      weights: best.files.weights,
      metrics: {
        loss: best.loss,
        validation_loss: best.validationLoss,
        epochs: best.epoch,
        training_rows: rowsTrained,
        held_back_rows: rows,
        held_back_score_max: highest,
        multiply_adds: engine.multiplyAdds,
        ...choice.metrics,
        signals_stuck: of('stuck'),
        signals_with_outliers: of('outliers'),
        ...trivial.metrics,
      },
      hyperParameters: { ...parameters, ...lineageOf(settings), ...engine.hyperParameters },
      trivial,
    },
    split,
    data: {
      vehicles: seen.vehicles.size,
      rows: seen.rows,
      rowsExcluded: seen.excluded,
      duplicatesDropped: seen.duplicates,
      findings: seen.findings,
      malformed: seen.malformed,
      span: seen.span,
    },
  };
}

/** The first pass: who there is, what is odd, and a sample. */
async function survey(
  log: EventLog,
  { query, signalSet, seed, settings, signal, ...options }: StreamedFitOptions,
  alarms: Awaited<ReturnType<typeof readAlarms>>,
) {
  const signals = signalSet.signals.length;
  const rows = new LogRows(query, alarms);
  const sample = new RowSample({ rowsMax: settings.sampleRows, signals, seed: seedOf(seed, OF_SAMPLE) });
  const signalSurvey = new SignalSurvey(signalSet);
  const vehicles = new Map<string, number>();
  const span = { from: Infinity, to: -Infinity };
  const records = recordsIn(query);
  let read = 0;
  for await (const chunk of orderedRecords(log, 'telemetry', query.offsets, signal)) {
    for (const record of chunk)
      for (const piece of rows.of(record)) {
        const { vehicle, times, values } = piece;
        vehicles.set(vehicle, (vehicles.get(vehicle) ?? 0) + times.length);
        span.from = Math.min(span.from, times[0]!);
        span.to = Math.max(span.to, times[times.length - 1]!);
        signalSurvey.add(vehicle, values);
        sample.add(piece);
      }
    read += chunk.length;
    options.onProgress?.({
      epoch: 0,
      epochs: settings.epochs,
      rows: signalSurvey.rows,
      rowsExpected: 0,
      recordsLeft: records - read,
      records,
      loss: Number.NaN,
    });
  }
  const taken = sample.finish();
  const findings = signalSurvey.findings(taken.map(({ values }) => values));
  options.onFindings?.(findings, rows.others);
  if (signalSurvey.rows === 0) throw insufficient(0);
  return {
    vehicles,
    sample: taken,
    findings,
    span,
    rows: signalSurvey.rows,
    excluded: rows.excluded,
    duplicates: rows.duplicates,
    malformed: rows.malformed,
    /** About how many rows of the span are to be trained on. */
    trainedOn: (split: RowSplit) => {
      if (split.vehiclesHeldBack === vehicles.size)
        return Math.max(1, Math.round(signalSurvey.rows * (1 - settings.heldBackPart)));
      let sum = 0;
      for (const [vehicle, count] of vehicles) if (split.trainsOn(vehicle)) sum += count;
      return sum;
    },
  };
}

interface TrainOptions {
  options: StreamedFitOptions;
  parameters: HyperParameters;
  alarms: Awaited<ReturnType<typeof readAlarms>>;
  split: RowSplit;
  features: FeatureSpec;
  epochs: number;
  rowsTrained: number;
  /** Features of held-back rows. */
  validation: Float32Array;
}

/** The epochs. Resolves to the one with the smallest loss on held-back rows. */
async function train(
  log: EventLog,
  training: NetworkTraining,
  { options, parameters, alarms, split, features, epochs, rowsTrained, validation }: TrainOptions,
  turns: Turns,
): Promise<BestEpoch> {
  const { query, seed, settings, signal, resume } = options;
  const { batchRows, patience, maskChance, noise } = parameters;
  const width = features.inputs.length;
  const corruption = new Corruption(
    features.inputs.map(({ signal }) => signal),
    { maskChance, noise },
  );
  const inputs = new Float32Array(batchRows * width);
  const records = recordsIn(query);
  let best = resume?.best;
  if (resume !== undefined) training.restore(resume.state);
  let kept = performance.now();
  for (let epoch = resume?.epoch ?? 1; epoch <= epochs; epoch++) {
    const done = resume?.epoch === epoch ? resume.blocks : 0;
    let { blocks, rows, lossSum } =
      done > 0 ? { blocks: 0, rows: 0, lossSum: resume!.lossSum } : { blocks: 0, rows: 0, lossSum: 0 };
    let recordsRead = 0;
    const begun = performance.now();
    const rate = () =>
      parameters.learningRate * decay(Math.min(1, (epoch - 1 + Math.min(1, rows / rowsTrained)) / epochs));
    const position = (): StreamPosition => ({
      epoch,
      blocks,
      rows,
      lossSum,
      state: training.state(),
      best,
    });
    const passes = trainingBlocks(log, {
      query,
      alarms,
      part: (piece) => split.training(piece),
      signals: options.signalSet.signals.length,
      features,
      batchRows,
      shuffleRows: settings.shuffleRows,
      seed: seedOf(seed, OF_ORDER, epoch),
      onRecords: (count) => (recordsRead = count),
    });
    for await (const block of passes) {
      if (blocks >= done) {
        training.learningRate = rate();
        let shown = block.values;
        if (maskChance > 0 || noise > 0) {
          const random = new SeededRandom(seedOf(seed, OF_NOISE, epoch, blocks));
          corruption.apply(block.values, inputs, block.rows, random);
          shown = inputs;
        }
        lossSum += block.rows * training.step(shown, block.values, block.rows);
      }
      blocks++;
      rows += block.rows;
      options.onProgress?.({
        epoch,
        epochs,
        rows,
        rowsExpected: rowsTrained,
        recordsLeft: records - recordsRead,
        records,
        loss: blocks > done ? checkLoss(lossSum / rows, rate()) : Number.NaN,
      });
      if (signal?.aborted) {
        // What is being passed over stands in the position that it was taken up from.
        if (blocks > done) await options.onPosition?.(position());
        signal.throwIfAborted();
      }
      if (blocks > done && performance.now() - kept > POSITION_EVERY_MS) {
        await options.onPosition?.(position());
        kept = performance.now();
      }
      if (turns.due) await turns.give().catch(() => undefined);
    }
    if (rows === 0) throw insufficient(0);
    const loss = checkLoss(lossSum / rows, rate());
    const validationLoss = await lossOf(training, validation, width, rate(), turns);
    if (best === undefined || validationLoss < best.validationLoss)
      best = { epoch, loss, validationLoss, files: training.save() };
    const rowsPerSecond = (1000 * rows) / (performance.now() - begun);
    await options.onEpoch?.({ epoch, epochs, loss, validationLoss, rowsPerSecond });
    const ended = epoch - best.epoch >= patience;
    await options.onPosition?.({
      ...position(),
      epoch: ended ? epochs + 1 : epoch + 1,
      blocks: 0,
      rows: 0,
      lossSum: 0,
    });
    if (ended) break;
  }
  return best!;
}

async function lossOf(
  training: NetworkTraining,
  rows: Float32Array,
  width: number,
  rate: number,
  turns: Turns,
): Promise<number> {
  let sum = 0;
  for (let at = 0; at < rows.length; at += VALIDATION_ROWS * width) {
    const block = rows.subarray(at, at + VALIDATION_ROWS * width);
    sum += block.length * training.loss(block, block, block.length / width);
    if (turns.due) await turns.give();
  }
  return checkLoss(sum / rows.length, rate);
}

function recordsIn({ offsets }: RowQuery): number {
  return Object.values(offsets).reduce((sum, { from, to }) => sum + to - from, 0);
}

/** A seed for one purpose: that of the training mixed with what it is for (the finaliser of MurmurHash3). */
function seedOf(seed: number, ...purpose: number[]): number {
  let hash = seed | 0;
  for (const number of purpose) {
    hash = Math.imul(hash ^ number, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash >>> 0;
}
