/** An adapter's time that is off by more than this against the arrival is set anew. Milliseconds. */
const OFF_MS_MAX = 1000;
const PERIOD_MS = 60_000;
/** By how much an adapter's clock may be slow: more than quartz and most resonators are. */
const DRIFT_MAX = 0.001;

/**
 * Turns the time stamps of an adapter into times of this computer. The adapter's time, in milliseconds modulo 60,000,
 * tells the distance between frames better than the arrival over USB does; the frame that took the shortest way tells
 * where it stands. A slow clock of the adapter looks like frames that take ever longer, so that a part of what they are
 * late is taken for drift.
 */
export class SlcanClock {
  /** Arrival minus the adapter's time. */
  #offset: number | undefined;
  #before = 0;

  /** @param arrival milliseconds since 1970 */
  time(stamp: number, arrival: number): number {
    const passed = Math.max(0, arrival - this.#before);
    this.#before = arrival;
    this.#offset ??= arrival - stamp;
    const since = (arrival - this.#offset - stamp) % PERIOD_MS;
    const late = since < 0 ? since + PERIOD_MS : since;
    if (late > OFF_MS_MAX) {
      this.#offset = arrival - stamp;
      return arrival;
    }
    this.#offset += Math.min(late, passed * DRIFT_MAX);
    return arrival - late;
  }
}
