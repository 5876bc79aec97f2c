import type { RolloutCreated, RolloutEventData, RolloutJudged } from '@cardan/shared';

/** An event of a rollout, as the API gives it. */
export type ToldEvent = {
  [K in keyof RolloutEventData]: { type: K; time: string; data: RolloutEventData[K] };
}[keyof RolloutEventData];

/** The story of a rollout in lines: each decision, when, by whom, and on which evidence. */
export function explain(events: readonly ToldEvent[]): string[] {
  let plan: RolloutCreated | undefined;
  const stageName = (stage: number) => `${plan?.stages[stage]?.name ?? stage}`;
  return events.flatMap((event) => {
    const at = (what: string, ...more: string[]) => [
      `${event.time}  ${what}`,
      ...more.map((line) => `${' '.repeat(26)}${line}`),
    ];
    switch (event.type) {
      case 'io.cardan.rollout.created':
        plan = event.data;
        return at(`created by ${plan.by}: ${subjectOf(plan)}`, ...planLines(plan));
      case 'io.cardan.rollout.stage-begun': {
        const { stage, part, generation, champion } = event.data;
        const beside = champion === null ? '' : `, compared with ${champion.name} ${champion.version}`;
        const reached = part < 1 ? ` for ${percent(part)} of its vehicles` : '';
        return at(`stage ${stageName(stage)} begins${reached}${beside} (generation ${generation})`);
      }
      case 'io.cardan.rollout.widened':
        return at(`reaches ${percent(event.data.part)} of the stage (generation ${event.data.generation})`);
      case 'io.cardan.rollout.gate-passed':
        return at(`gate of stage ${stageName(event.data.stage)} passes`, ...findings(event.data));
      case 'io.cardan.rollout.gate-failed':
        return at(`gate of stage ${stageName(event.data.stage)} FAILS`, ...findings(event.data));
      default: {
        const { by, reason } = event.data;
        const what = event.type.replace('io.cardan.rollout.', '').replace('-', ' ');
        const generation = 'generation' in event.data ? ` (generation ${event.data.generation})` : '';
        return at(`${what} by ${by}${reason === '' ? '' : `: ${reason}`}${generation}`);
      }
    }
  });
}

function subjectOf({ subject }: RolloutCreated): string {
  return subject.kind === 'model'
    ? `model ${subject.model.name} ${subject.model.version}`
    : `campaign ${subject.campaign.id} ${subject.campaign.version}`;
}

function planLines({ filter, stages, approval, onFail, weight }: RolloutCreated): string[] {
  const who = filter === '' ? 'all vehicles' : `vehicles with ${filter}`;
  const lines = stages.map(
    (stage) =>
      `${stage.name}: ${stage.kind}, ${stage.percent} %${stage.filter === '' ? '' : ` of ${stage.filter}`}, at least ` +
      `${stage.minimum.vehicles} vehicles and ${stage.minimum.vehicleHours} vehicle-hours`,
  );
  return [
    `for ${who}, weight ${weight}, ${approval ? 'with' : 'without'} approval, a gate that fails means ${onFail}`,
    ...lines,
  ];
}

function findings({ findings, evidence }: RolloutJudged): string[] {
  return [
    ...findings.map(({ gate, verdict, hard, why }) => `${gate} ${verdict}${hard ? ' at once' : ''}: ${why}`),
    `evidence: ${JSON.stringify(evidence)}`,
  ];
}

function percent(part: number): string {
  return `${Number((100 * part).toPrecision(3))} %`;
}
