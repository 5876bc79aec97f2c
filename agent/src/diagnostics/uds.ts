import { CardanError } from '@cardan/shared';
import type { DiagnosticClient } from './diagnostic-client.ts';
import { troubleCode } from './trouble-code.ts';

/** ReadDTCInformation of ISO 14229-1, and its sub-function reportDTCByStatusMask. */
const READ_DTC = 0x19;
const BY_STATUS_MASK = 0x02;

/** Bits of the status of a trouble code, by ISO 14229-1. */
export const DtcStatus = {
  testFailed: 0x01,
  testFailedThisOperationCycle: 0x02,
  pending: 0x04,
  confirmed: 0x08,
  testNotCompletedSinceLastClear: 0x10,
  testFailedSinceLastClear: 0x20,
  testNotCompletedThisOperationCycle: 0x40,
  warningIndicatorRequested: 0x80,
} as const;

export interface UdsTroubleCode {
  /** The two bytes that OBD-II also knows, and the failure type: `P0301-1A`. */
  code: string;
  /** All 24 bits. */
  number: number;
  /** Bits of {@link DtcStatus}. */
  status: number;
  /** Names of the bits that are set. */
  flags: (keyof typeof DtcStatus)[];
}

/**
 * The trouble codes of one control unit whose status has a bit of the mask.
 *
 * @param unit the CAN id that it answers with
 * @throws CardanError DIAGNOSTICS_TIMEOUT, DIAGNOSTICS_REFUSED, DIAGNOSTICS_MALFORMED
 */
export async function readDtcs(
  client: DiagnosticClient,
  unit: number,
  statusMask: number = DtcStatus.confirmed | DtcStatus.pending,
): Promise<UdsTroubleCode[]> {
  const answer = await client.request(unit, Uint8Array.of(READ_DTC, BY_STATUS_MASK, statusMask), 1);
  return parseDtcs(answer);
}

/** @throws CardanError DIAGNOSTICS_MALFORMED */
export function parseDtcs(answer: Uint8Array): UdsTroubleCode[] {
  if (
    answer[0] !== READ_DTC + 0x40 ||
    answer[1] !== BY_STATUS_MASK ||
    answer.length < 3 ||
    (answer.length - 3) % 4
  )
    throw new CardanError(
      'DIAGNOSTICS_MALFORMED',
      `${answer.length} bytes are no list of trouble codes: 3 and 4 per code are expected.`,
    );
  const codes: UdsTroubleCode[] = [];
  for (let at = 3; at < answer.length; at += 4) {
    const [high = 0, low = 0, type = 0, status = 0] = answer.subarray(at, at + 4);
    codes.push({
      code: `${troubleCode(high, low)}-${type.toString(16).toUpperCase().padStart(2, '0')}`,
      number: (high << 16) | (low << 8) | type,
      status,
      flags: (Object.keys(DtcStatus) as (keyof typeof DtcStatus)[]).filter(
        (flag) => status & DtcStatus[flag],
      ),
    });
  }
  return codes;
}
