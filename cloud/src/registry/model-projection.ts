import {
  isEvent,
  type ModelManifest,
  type ModelRef,
  parseManifest,
  recordToEvent,
  type RolloutDecided,
  type VehicleDesired,
} from '@cardan/shared';
import type { LogRecord } from '@cardan/shared/event-log';

const SHA256 = /^[0-9a-f]{64}$/;

export interface ModelVersion {
  manifest: ModelManifest;
  /** SHA-256 of manifest.json. */
  manifestSha256: string;
}

/**
 * Of each model the newest versions stay signed for cars; older ones only while a decision names them. It keeps
 * the targets metadata, which every car fetches, at a few hundred kilobytes however long the fleet learns.
 */
export const SIGNED_VERSIONS_MAX = 50;

const UNDECIDED: VehicleDesired = { generation: 0, active: null };

/** What the `models` topic says: every version that was published, and what each signal set should run. */
export class ModelProjection {
  /** Records that could not be read, and were passed over. */
  malformed = 0;
  /** The highest generation that was ever decided. */
  generation = 0;
  private readonly models = new Map<string, Map<string, ModelVersion>>();
  /** Newest decision per signal set. */
  private readonly decisions = new Map<string, RolloutDecided>();
  /** The same as vehicles are told: one object for all of them. */
  private readonly desiredOf = new Map<string, VehicleDesired>();
  /** Newest version published per signal set that no decision has followed yet. */
  private readonly undecidedOf = new Map<string, ModelRef>();

  /** Takes in a record; says whether anything changed by it. The same one again changes nothing. */
  apply(record: LogRecord): boolean {
    try {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.model.published')) {
        if (!SHA256.test(event.data.manifestSha256)) throw new TypeError('no hash of the manifest');
        const manifest = parseManifest(Buffer.from(JSON.stringify(event.data.manifest)));
        return this.published({ manifest, manifestSha256: event.data.manifestSha256 });
      }
      if (isEvent(event, 'io.cardan.rollout.decided')) return this.decided(event.data);
    } catch {
      this.malformed++;
    }
    return false;
  }

  names(): string[] {
    return [...this.models.keys()];
  }

  /** In the order in which they were published. */
  versions(name: string): ModelVersion[] {
    return [...(this.models.get(name)?.values() ?? [])];
  }

  version({ name, version }: ModelRef): ModelVersion | undefined {
    return this.models.get(name)?.get(version);
  }

  desired(signalSet: string): VehicleDesired {
    return this.desiredOf.get(signalSet) ?? UNDECIDED;
  }

  allDecisions(): RolloutDecided[] {
    return [...this.decisions.values()];
  }

  undecided(): ModelVersion[] {
    return [...this.undecidedOf.values()].flatMap((ref) => this.version(ref) ?? []);
  }

  /** The versions that cars may fetch. */
  signedVersions(): ModelVersion[] {
    const newest = this.names().flatMap((name) => this.versions(name).slice(-SIGNED_VERSIONS_MAX));
    const active = this.allDecisions().flatMap(({ active }) => this.version(active) ?? []);
    return [...new Set([...newest, ...active])];
  }

  private published(model: ModelVersion): boolean {
    const { name, version, signalSet } = model.manifest;
    const versions = this.models.get(name) ?? new Map<string, ModelVersion>();
    this.models.set(name, versions);
    // A version never changes: what came first stays.
    if (versions.has(version)) return false;
    versions.set(version, model);
    this.undecidedOf.set(signalSet.id, { name, version });
    return true;
  }

  private decided(decision: RolloutDecided): boolean {
    const { generation, signalSet, active } = decision;
    if (!Number.isSafeInteger(generation) || ![signalSet, active.name, active.version].every(isText))
      throw new TypeError('no decision');
    this.generation = Math.max(this.generation, generation);
    if (generation <= this.desired(signalSet).generation) return false;
    this.decisions.set(signalSet, decision);
    this.desiredOf.set(signalSet, { generation, active });
    const undecided = this.undecidedOf.get(signalSet);
    if (undecided?.name === active.name && undecided.version === active.version)
      this.undecidedOf.delete(signalSet);
    return true;
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
