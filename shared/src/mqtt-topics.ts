import { CardanError } from './errors.ts';

/** Topics of one vehicle. See docs/wire-formats.md for what each carries. */
export type VehicleChannel = 'telemetry' | 'event' | 'ack' | 'desired' | 'reported' | 'status';

const ROOT = 'cardan/v1';
const VEHICLE_ID = /^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$/;

/** `cardan/v1/{vehicle}/{channel}`; with `+` as the vehicle it is the filter for all vehicles. */
export function mqttTopic(vehicle: string, channel: VehicleChannel): string {
  return `${ROOT}/${vehicle}/${channel}`;
}

/** The vehicle and channel of a topic, or undefined when it is not one of ours. */
export function parseMqttTopic(topic: string): { vehicle: string; channel: string } | undefined {
  const parts = topic.split('/');
  if (parts.length !== 4 || `${parts[0]}/${parts[1]}` !== ROOT) return undefined;
  const [, , vehicle = '', channel = ''] = parts;
  return VEHICLE_ID.test(vehicle) ? { vehicle, channel } : undefined;
}

/**
 * Checks a vehicle id: 1 to 64 of `A-Z a-z 0-9 _ . : -`, the first a letter, digit or `_`, as it becomes a topic
 * level and a file name.
 */
export function checkVehicleId(vehicle: string): string {
  if (!VEHICLE_ID.test(vehicle))
    throw new CardanError(
      'USAGE',
      `"${vehicle}" cannot be a vehicle id. Use 1 to 64 of the characters A-Z a-z 0-9 _ . : -, and begin with a letter, a digit or _.`,
    );
  return vehicle;
}
