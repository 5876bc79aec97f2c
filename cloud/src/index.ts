export { RegistryClient } from './registry-client.ts';
export { startServices, type RunningServices, type ServiceName, type ServicesOptions } from './services.ts';
