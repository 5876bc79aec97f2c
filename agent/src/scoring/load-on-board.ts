import { CardanError, checkModelFiles, checkSelfTest, loadAnyModel } from '@cardan/shared';
import type { InstalledModel } from '../updater/model-store.ts';
import type { LoadedModel } from './running-model.ts';

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
  const model = await loadAnyModel(files);
  checkSelfTest(model);
  return { ref, address, model };
}
