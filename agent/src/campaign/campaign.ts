export { parseCampaign, readCampaign, type Campaign, type ConditionCollection } from '@cardan/shared';
