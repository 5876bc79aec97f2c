export { DrivingStates, type DrivingStatesOptions } from './learner/driving-states.ts';
export { RegistryClient } from './registry-client.ts';
export { startServices, type RunningServices, type ServiceName, type ServicesOptions } from './services.ts';
