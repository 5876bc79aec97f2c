/**
 * What it takes to say for every vehicle of a large fleet what it should collect, with as many campaigns as a fleet can
 * have: it is done for each poll, and for all of them after each change. Beside it, the same by looking at every campaign.
 * One JSON line per figure: `node --import tsx bench/desired.ts`.
 */
import { cloudEvent, eventToRecord, isForVehicleId } from '@cardan/shared';
import { CampaignProjection } from '../cloud/src/registry/campaign-projection.ts';
import { LIVE_CAMPAIGNS_MAX } from '../cloud/src/registry/campaigns.ts';
import { benchCarId } from './parts/bench-car.ts';
import { printFigure } from './parts/figure.ts';

const VEHICLES = 100_000;

const projection = new CampaignProjection();
for (let number = 0; number < LIVE_CAMPAIGNS_MAX; number++) {
  // Nine of ten are for some cars by name, one is for a range of them.
  const ids =
    number % 10 === 0
      ? [`${benchCarId(number * 100).slice(0, -3)}*`]
      : Array.from({ length: 20 }, (_, i) => benchCarId((number * 97 + i * 4001) % VEHICLES));
  const document = {
    schema: 1,
    id: `campaign-${number}`,
    name: 'Speed, ten times a second',
    version: '1',
    vehicles: { ids },
    signals: ['Speed'],
    collection: { type: 'time', periodMs: 100 },
  };
  const at = { source: '/services/registry', id: `published-${number}`, time: 0 };
  const event = cloudEvent('io.cardan.campaign.published', at, { generation: number + 1, document });
  const { key, value, timestamp, headers } = eventToRecord(`campaign-${number}`, event);
  if (!projection.apply({ offset: number, key, value, timestamp, headers })) throw new Error('No campaign.');
}
const vehicles = Array.from({ length: VEHICLES }, (_, number) => benchCarId(number));
const selectors = projection.allLive().map(({ campaign }) => campaign.vehicles);

measure('desired_campaigns', VEHICLES, (vehicle) => projection.desired(vehicle)?.campaigns.length ?? 0);
// A hundredth of them: all would take minutes.
measure(
  'desired_campaigns_by_looking_at_each',
  VEHICLES / 100,
  (vehicle) => selectors.filter((selector) => isForVehicleId(selector, vehicle)).length,
);

function measure(bench: string, count: number, campaignsOf: (vehicle: string) => number): void {
  let found = 0;
  const cpu = process.cpuUsage();
  const begin = performance.now();
  for (let i = 0; i < count; i++) found += campaignsOf(vehicles[(i * 7919) % VEHICLES]!);
  const seconds = (performance.now() - begin) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  printFigure({
    bench,
    value: count / seconds,
    unit: 'vehicles/s',
    cpu_us_per_item: (user + system) / count,
    campaigns: LIVE_CAMPAIGNS_MAX,
    campaigns_per_vehicle: found / count,
  });
}
