import type { VehicleDesired } from '@cardan/shared';

/**
 * Who knows what each vehicle should have. It is asked at every poll, and for every vehicle after each change: what is the
 * same for many vehicles should be the same object, whose text is then made once.
 */
export interface DesiredSource {
  desired(signalSet: string, vehicle: string): VehicleDesired;
  /** Calls back after that may have changed for any vehicle. Returns how to stop it. */
  onChange(listener: () => void): () => void;
}

const texts = new WeakMap<VehicleDesired, string>();

/** As it goes to the vehicle, over MQTT and HTTP. */
export function desiredText(desired: VehicleDesired): string {
  let text = texts.get(desired);
  if (text === undefined) {
    text = JSON.stringify(desired);
    texts.set(desired, text);
  }
  return text;
}
