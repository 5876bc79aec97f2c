export * from './event-log.ts';
export { openEventLog } from './open.ts';
export { SqliteEventLog, type SqliteEventLogOptions } from './sqlite.ts';
export type { Compression, KafkaSettings } from './kafka-settings.ts';
