export { Agent, type AgentOptions } from './agent.ts';
export { CandumpSource } from './can/candump.ts';
export type { CanFrame, CanSource } from './can/can-frame.ts';
export * from './dbc/index.ts';
export { mapAllSignals, readVssMap, type SignalMap } from './vss.ts';
