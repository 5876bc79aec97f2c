export { startBroker, type Broker } from './broker.ts';
export { Fleet, simulatedCar, type FleetOptions } from './fleet.ts';
export { runDemo, type DemoOptions, type DemoSummary } from './demo.ts';
