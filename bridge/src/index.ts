export { Bridge, type BridgeCounts, type BridgeOptions } from './bridge.ts';
