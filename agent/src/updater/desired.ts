import { CardanError, type ModelRef, type VehicleDesired } from '@cardan/shared';

/** Parses what the cloud wants of the vehicle, from MQTT or HTTP. Throws EVENT_MALFORMED. */
export function parseDesired(bytes: Uint8Array): VehicleDesired {
  const bad = (cause?: unknown) =>
    new CardanError(
      'EVENT_MALFORMED',
      'A desired state needs "generation" and "active" with name and version; "candidate" may be the same.',
      {
        cause,
      },
    );
  let value: Partial<VehicleDesired> | null;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8')) as Partial<VehicleDesired> | null;
  } catch (cause) {
    throw bad(cause);
  }
  const { generation, active, candidate } = value ?? {};
  if (generation === undefined || !Number.isSafeInteger(generation) || generation < 0) throw bad();
  const modelRef = (ref: ModelRef | null | undefined): ModelRef | null => {
    if (ref === null) return null;
    if (typeof ref?.name !== 'string' || typeof ref.version !== 'string') throw bad();
    return { name: ref.name, version: ref.version };
  };
  return {
    generation,
    active: modelRef(active),
    ...(candidate === undefined ? {} : { candidate: modelRef(candidate) }),
  };
}
