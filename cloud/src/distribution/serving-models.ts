import { loadAnyModel, simdNetwork, type Model, type ModelRef } from '@cardan/shared';
import type { Registry } from '../registry/registry.ts';

/** Models that are kept ready, the ones used last: a model of a car's size has some hundred kilobytes. */
const MODELS_MAX = 32;

/** The registry's models, loaded when somebody asks them, and kept while they are asked. */
export class ServingModels {
  private readonly registry: Registry;
  /** By the hash of the manifest, which names all the bytes. The one used last is at the end. */
  private readonly loaded = new Map<string, Promise<Model>>();

  constructor(registry: Registry) {
    this.registry = registry;
  }

  /** Throws MODEL_UNKNOWN, BLOB_UNKNOWN, MODEL_INVALID. */
  async get(ref: ModelRef): Promise<Model> {
    const { manifestSha256 } = this.registry.version(ref);
    const there = this.loaded.get(manifestSha256);
    const model = there ?? this.load(ref, manifestSha256);
    this.loaded.delete(manifestSha256);
    this.loaded.set(manifestSha256, model);
    if (this.loaded.size > MODELS_MAX) this.loaded.delete(this.loaded.keys().next().value ?? '');
    try {
      return await model;
    } catch (error) {
      // It may be there the next time.
      this.loaded.delete(manifestSha256);
      throw error;
    }
  }

  private async load(ref: ModelRef, manifestSha256: string): Promise<Model> {
    const { blobs } = this.registry;
    const { files } = this.registry.version(ref).manifest;
    const model = await loadAnyModel({
      manifest: await blobs.read(manifestSha256),
      model: await blobs.read(files['model.json'].sha256),
      weights: await blobs.read(files['weights.bin'].sha256),
    });
    model.network ??= simdNetwork(model.layers);
    return model;
  }
}
