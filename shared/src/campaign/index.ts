export { campaignInvalid } from './campaign-fields.ts';
export { CAMPAIGN_TARGET_BYTES_MAX, campaignTargetPath } from './campaign-target.ts';
export {
  CAMPAIGN_LENGTH_MAX,
  parseCampaign,
  readCampaign,
  type Campaign,
  type CampaignSignal,
  type Collection,
  type ConditionCollection,
  type RawFrames,
  type TimeCollection,
  type VehicleSelector,
} from './campaign.ts';
export {
  EXPRESSION_LIMITS,
  parseExpression,
  type CompareOperator,
  type Expression,
  type NumberNode,
  type TruthNode,
} from './expression.ts';
export { globFits, isForVehicle, isForVehicleId, type VehicleIdentity } from './vehicles.ts';
