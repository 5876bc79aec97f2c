import type { CampaignRef } from '../events.ts';

/**
 * Most bytes of a campaign that goes to cars: a thousand signals under names of usual length. Sixty-four of them, as many
 * as a car runs at once, stay at 4 MB of its disk.
 */
export const CAMPAIGN_TARGET_BYTES_MAX = 64 * 1024;

/** Path among the signed files. */
export function campaignTargetPath({ id, version }: CampaignRef): string {
  return `campaigns/${id}/${version}.json`;
}
