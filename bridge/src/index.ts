export { Bridge, type BridgeCounts, type BridgeHealth, type BridgeOptions } from './bridge.ts';
export { serveBridge, type BridgeHttp } from './bridge-http.ts';
