export { isForVehicle, type VehicleIdentity } from '@cardan/shared';
