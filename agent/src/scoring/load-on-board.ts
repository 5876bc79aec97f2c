import {
  CardanError,
  checkModelFiles,
  checkSelfTest,
  loadModel,
  type Model,
  type ModelManifest,
} from '@cardan/shared';
import type { InstalledModel } from '../updater/model-store.ts';
import type { LoadedModel } from './running-model.ts';
import { loadTfjsNetwork } from './tfjs-network.ts';

/**
 * Reads and checks a downloaded model, for the engine that its manifest names, and lets it prove here that it gives the
 * scores which it gave where it was made.
 *
 * @throws CardanError MODEL_INVALID, SELF_TEST_FAILED, and SIGNAL_SET_MISMATCH when it is for other columns
 */
export async function loadOnBoard(files: InstalledModel, signalSet: string): Promise<LoadedModel> {
  const { ref, address } = files;
  const manifest = checkModelFiles(files);
  if (manifest.signalSet.id !== signalSet)
    throw new CardanError(
      'SIGNAL_SET_MISMATCH',
      `Model ${ref.name} ${ref.version} is for signal set ${manifest.signalSet.id}, this car has ${signalSet}.`,
    );
  const model = manifest.engine === 'dense' ? loadModel(files) : await loadOther(files, manifest);
  checkSelfTest(model);
  return { ref, address, model };
}

async function loadOther(files: InstalledModel, manifest: ModelManifest): Promise<Model> {
  const network = await loadTfjsNetwork(files.model, files.weights);
  const inputs = manifest.features.inputs.length;
  if (network.inputs !== inputs || network.outputs !== inputs)
    throw new CardanError(
      'MODEL_INVALID',
      `Not a usable model: the manifest has ${inputs} inputs; the network takes ${network.inputs} and gives ${network.outputs}.`,
    );
  return { manifest, layers: [], network };
}
