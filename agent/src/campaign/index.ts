export {
  parseCampaign,
  readCampaign,
  type Campaign,
  type CampaignSignal,
  type Collection,
  type ConditionCollection,
  type RawFrames,
  type TimeCollection,
  type VehicleSelector,
} from '@cardan/shared';
export { Campaigns } from './campaigns.ts';
export {
  Collector,
  type CampaignCounts,
  type CampaignStatus,
  type CollectorOptions,
  type Trigger,
} from './collector.ts';
export { isForVehicle, type VehicleIdentity } from '@cardan/shared';
