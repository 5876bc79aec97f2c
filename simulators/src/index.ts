export { startBroker, type Broker } from './broker.ts';
export { Fleet, simulatedCar, type FleetOptions } from './fleet.ts';
export type { DemoOptions, DemoSummary } from './demo-options.ts';
export { runDemo } from './demo.ts';
