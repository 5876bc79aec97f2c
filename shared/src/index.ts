export * from './errors.ts';
export * from './events.ts';
export * from './log-topics.ts';
export * from './mqtt-topics.ts';
export * from './signal-set.ts';
export * from './telemetry.ts';
export * from './model/manifest.ts';
