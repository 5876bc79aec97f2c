import type { CampaignReport } from '@cardan/shared';
import type { CampaignStatus } from '../campaign/index.ts';

/** What a car says of its campaigns: those that run, and those that do not with the reason. Nothing when it has none. */
export function campaignReports(
  status: readonly CampaignStatus[],
  trouble: readonly CampaignReport[],
): { campaigns?: CampaignReport[] } {
  // One that should have stopped and runs on is in both.
  const running = status
    .map(({ campaign: { id, version }, phase }): CampaignReport => ({ id, version, phase, error: null }))
    .filter(({ id, version }) => !trouble.some((one) => one.id === id && one.version === version));
  const campaigns = [...running, ...trouble];
  return campaigns.length === 0 ? {} : { campaigns };
}
