import { type CampaignRef, CardanError, type ModelRef, type VehicleDesired } from '@cardan/shared';

/** Four times what a car runs at once. Each takes a place in what is reported, so a list without end must not. */
const CAMPAIGNS_READ_MAX = 256;

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
  const { generation, active, candidate, campaigns } = value ?? {};
  if (generation === undefined || !Number.isSafeInteger(generation) || generation < 0) throw bad();
  const wanted = modelRef(active);
  if (active !== null && wanted === null) throw bad();
  return {
    generation,
    active: wanted,
    ...campaignRefs(campaigns),
    // One that is no model is none: the active model must not suffer.
    ...(candidate === undefined ? {} : { candidate: modelRef(candidate) }),
  };
}

function modelRef(ref: Partial<ModelRef> | null | undefined): ModelRef | null {
  return typeof ref?.name === 'string' && typeof ref.version === 'string'
    ? { name: ref.name, version: ref.version }
    : null;
}

/**
 * The campaigns of a desired state. Without a list of them nothing is said, and an entry that is none is left out: the
 * model that stands beside it must not suffer.
 */
function campaignRefs(value: unknown): { campaigns?: CampaignRef[] } {
  if (!Array.isArray(value)) return {};
  const campaigns = (value.slice(0, CAMPAIGNS_READ_MAX) as (Partial<CampaignRef> | null)[]).flatMap((ref) =>
    typeof ref?.id === 'string' && typeof ref.version === 'string'
      ? [{ id: ref.id, version: ref.version }]
      : [],
  );
  return { campaigns };
}
