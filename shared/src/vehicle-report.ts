import { createHash } from 'node:crypto';
import { CardanError } from './errors.ts';
import { cloudEvent, eventToRecord, type VehicleReported } from './events.ts';

/**
 * The record of `vehicle-events` that a report becomes, whichever way it came; `text` is the report as JSON. It says when
 * it was said, so the same words are the same event: copies have one id. `now` (milliseconds since 1970) is for those
 * that do not. Throws EVENT_MALFORMED.
 */
export function reportRecord(
  vehicle: string,
  text: Uint8Array | string,
  reported: VehicleReported,
  now: number,
): ReturnType<typeof eventToRecord> {
  if (typeof reported.signalSet !== 'string' || !Number.isSafeInteger(reported.observedGeneration))
    throw new CardanError(
      'EVENT_MALFORMED',
      `The report of ${vehicle} has no "signalSet" and "observedGeneration".`,
    );
  const id = createHash('sha256').update(text).digest('hex').slice(0, 32);
  const said = Date.parse(reported.time);
  const event = cloudEvent(
    'io.cardan.vehicle.reported',
    { source: `/vehicles/${vehicle}`, id, time: said >= 0 ? said : now },
    reported,
  );
  return eventToRecord(vehicle, event);
}
