/** The first byte of a negative response; then the service, then the reason. */
export const NEGATIVE = 0x7f;
/** The control unit works on it, and the answer comes later. */
export const RESPONSE_PENDING = 0x78;
/** The control unit is busy; the request may come again. */
export const BUSY_REPEAT_REQUEST = 0x21;

/** Reasons of negative responses, by ISO 14229-1. */
const REASONS = new Map([
  [0x10, 'general reject'],
  [0x11, 'service not supported'],
  [0x12, 'sub-function not supported'],
  [0x13, 'incorrect message length or invalid format'],
  [0x14, 'response too long'],
  [BUSY_REPEAT_REQUEST, 'busy, repeat request'],
  [0x22, 'conditions not correct'],
  [0x24, 'request sequence error'],
  [0x25, 'no response from subnet component'],
  [0x26, 'failure prevents execution of requested action'],
  [0x31, 'request out of range'],
  [0x33, 'security access denied'],
  [0x35, 'invalid key'],
  [0x36, 'exceeded number of attempts'],
  [0x37, 'required time delay not expired'],
  [0x70, 'upload or download not accepted'],
  [0x71, 'transfer data suspended'],
  [0x72, 'general programming failure'],
  [0x73, 'wrong block sequence counter'],
  [RESPONSE_PENDING, 'response pending'],
  [0x7e, 'sub-function not supported in active session'],
  [0x7f, 'service not supported in active session'],
]);

/** The reason in words, with its number. */
export function negativeReason(code: number): string {
  const number = `0x${code.toString(16).toUpperCase().padStart(2, '0')}`;
  return `${REASONS.get(code) ?? 'unknown reason'} (${number})`;
}
