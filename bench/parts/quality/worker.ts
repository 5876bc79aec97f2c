/** A process of `bench/quality.ts`: gets a model and seeds, answers with the outcome of each car. */
import { loadModel } from '@cardan/shared';
import { tryCar } from './trial.ts';

export interface Work {
  /** Base64 each. */
  files: { manifest: string; model: string; weights: string };
  seeds: number[];
  healthyS: number;
}

process.once('message', (work: Work) => {
  void answer(work).then(() => process.disconnect());
});

async function answer({ files, seeds, healthyS }: Work): Promise<void> {
  const bytes = (text: string) => Buffer.from(text, 'base64');
  const model = loadModel({
    manifest: bytes(files.manifest),
    model: bytes(files.model),
    weights: bytes(files.weights),
  });
  for (const seed of seeds) {
    const outcome = tryCar(model, seed, healthyS);
    // The channel must have taken it before it is closed.
    await new Promise((sent) => process.send!(outcome, sent));
  }
}
