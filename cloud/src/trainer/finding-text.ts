import type { SignalFinding } from '@cardan/shared';

/** A finding about a signal in words, for the console and the model card. */
export function findingText({ signal, kind, value }: SignalFinding): string {
  const percent = `${(100 * value).toPrecision(3)} %`;
  const what = {
    missing: `not seen in ${percent} of the rows; it is left out`,
    // Of float32: more digits are noise.
    constant: `always ${Number(value.toPrecision(7))}; it is left out`,
    stuck: `has not moved for an hour of rows in ${value} ${value === 1 ? 'vehicle' : 'vehicles'}`,
    outliers: `${percent} of its values are outliers; they are clipped`,
  }[kind];
  return `signal ${signal}: ${what}`;
}
