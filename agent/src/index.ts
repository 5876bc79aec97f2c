export { Agent, type AgentOptions } from './agent.ts';
export { CandumpSource } from './can/candump.ts';
export type { CanBus, CanFrame, CanSource } from './can/can-frame.ts';
export { systemTimers, type Timers } from './can/timers.ts';
export * from './dbc/index.ts';
export * from './diagnostics/index.ts';
export * from './j1939/index.ts';
export { mapAllSignals, readVssMap, type SignalMap } from './vss.ts';
