import { CardanError, type VehicleDesired } from '@cardan/shared';

/** Parses what the cloud wants of the vehicle, from MQTT or HTTP. Throws EVENT_MALFORMED. */
export function parseDesired(bytes: Uint8Array): VehicleDesired {
  const bad = (cause?: unknown) =>
    new CardanError(
      'EVENT_MALFORMED',
      'A desired state needs "generation" and "active" with name and version.',
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
  const { generation, active } = value ?? {};
  if (generation === undefined || !Number.isSafeInteger(generation) || generation < 0) throw bad();
  if (active === null) return { generation, active };
  if (typeof active?.name !== 'string' || typeof active.version !== 'string') throw bad();
  return { generation, active: { name: active.name, version: active.version } };
}
