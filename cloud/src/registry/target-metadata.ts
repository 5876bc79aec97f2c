import { featureSchemaOf, operationsOf, type ModelManifest } from '@cardan/shared';

/**
 * What is signed of a model beside length and hash of its files, the same with each: enough for a car to tell that the
 * model is not for it before it downloads a byte.
 */
export interface ModelTargetMetadata {
  model: string;
  version: string;
  /** Id of the columns: a hash of their names and units. */
  signalSet: string;
  engine: string;
  /** See `FEATURE_SCHEMA`. */
  features: number;
  /** Multiply-adds of one row. */
  operations: number;
}

export function modelTargetMetadata(manifest: ModelManifest): ModelTargetMetadata {
  const { name, version, signalSet, engine, features } = manifest;
  return {
    model: name,
    version,
    signalSet: signalSet.id,
    engine,
    features: featureSchemaOf(features),
    operations: operationsOf(manifest),
  };
}
