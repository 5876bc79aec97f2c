import { CardanError, decodeTelemetry, type TelemetryBatch } from '@cardan/shared';

/**
 * The batch in a record of `telemetry`. The bridge lets only sound ones in, but others may write to the log too:
 * what cannot be read is told to `onMalformed` and passed over, so that it does not stop a consumer for good.
 */
export function telemetryOf(
  value: Buffer,
  onMalformed: (error: CardanError) => void,
): TelemetryBatch | undefined {
  try {
    return decodeTelemetry(value);
  } catch (error) {
    if (!(error instanceof CardanError)) throw error;
    onMalformed(error);
    return undefined;
  }
}
