export { DiagnosticClient, type Answers, type DiagnosticClientOptions } from './diagnostic-client.ts';
export { IsoTpLink, normalFixed, type CanId, type IsoTpAddress, type IsoTpOptions } from './iso-tp.ts';
export {
  ObdPoller,
  type ObdPollerOptions,
  type PidSchedule,
  readStoredCodes,
  readVin,
  supportedPids,
  type SupportedPids,
} from './obd2.ts';
export { decodePid, OBD_PIDS, type ObdValue } from './obd2-pids.ts';
export { troubleCode, troubleCodeBytes } from './trouble-code.ts';
export { DtcStatus, readDtcs, type UdsTroubleCode } from './uds.ts';
