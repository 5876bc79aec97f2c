import { invalid } from './json-fields.ts';
import { checkModelFiles, loadModel, type Model, type ModelFileBytes } from './load-model.ts';
import { loadTfjsNetwork } from './tfjs-network.ts';

/**
 * `loadModel` for every engine: dense layers run in the executor, other networks in TensorFlow.js.
 *
 * @throws CardanError MODEL_INVALID, also when the model needs TensorFlow.js and it is not installed
 */
export async function loadAnyModel(files: ModelFileBytes): Promise<Model> {
  const manifest = checkModelFiles(files);
  if (manifest.engine === 'dense') return loadModel(files);
  const network = await loadTfjsNetwork(files.model, files.weights);
  const inputs = manifest.features.inputs.length;
  if (network.inputs !== inputs || network.outputs !== inputs)
    throw invalid(
      `the manifest has ${inputs} inputs; the network takes ${network.inputs} and gives ${network.outputs}`,
    );
  return { manifest, layers: [], network };
}
