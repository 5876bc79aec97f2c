export { Bridge, type BridgeHealth, type BridgeOptions } from './bridge.ts';
export type { BridgeCounts } from './bridge-metrics.ts';
export { serveBridge, type BridgeHttp } from './bridge-http.ts';
