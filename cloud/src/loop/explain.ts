import type { CloudEvent, LoopFinding } from '@cardan/shared';

/** The story of a proposal in lines: each step, when, by whom, and on which evidence. */
export function explainLoop(events: readonly CloudEvent[]): string[] {
  return events.flatMap(({ type, time, data }) => {
    const fields = data as Record<string, unknown>;
    const text = (name: string) => {
      const value = fields[name];
      return typeof value === 'string' || typeof value === 'number' ? String(value) : JSON.stringify(value);
    };
    const findings = (fields.findings as LoopFinding[] | undefined) ?? [];
    const lines = findings.map(({ what, value, bound, why }) => `${what} ${value}, bound ${bound}: ${why}`);
    const at = (what: string, ...more: string[]) => [
      `${time}  ${what}`,
      ...more.map((line) => `${' '.repeat(26)}${line}`),
    ];
    switch (type) {
      case 'io.cardan.loop.drift-detected':
        return at(
          `drift of ${text('cause')} since ${text('onset')}: ${text('drifting')} of ${text('vehicles')} vehicles`,
          ...lines,
        );
      case 'io.cardan.loop.retraining-proposed': {
        const { trainingsInDay, perDay } = fields.budget as { trainingsInDay: number; perDay: number };
        const { part } = fields.heldBack as { part: number };
        return at(
          `proposed because of ${text('trigger')}: ${text('reason')}`,
          `${trainingsInDay} of ${perDay} trainings of the last day used; ${100 * part} % of the vehicles held back`,
          ...lines,
        );
      }
      case 'io.cardan.loop.approved':
        return at(`${text('step')} approved by ${text('by')}${reasonOf(fields)}`);
      case 'io.cardan.loop.rejected':
        return at(`rejected by ${text('by')}${reasonOf(fields)}`);
      case 'io.cardan.training.requested':
        return at('training asked for');
      case 'io.cardan.training.started':
        return at(`training begins: ${text('rows')} rows of ${text('vehicles')} vehicles`);
      case 'io.cardan.training.completed':
        return at(`trained: ${text('model')} version ${text('version')}`);
      case 'io.cardan.training.failed':
        return at(`training FAILS: ${text('code')} ${text('message')}`);
      case 'io.cardan.loop.candidate-judged':
        return at(`candidate judged: ${text('verdict')}`, ...lines, `evidence: ${text('evidence')}`);
      case 'io.cardan.loop.rollout-begun':
        return at(`rollout ${text('rollout')} begins`);
      default:
        return [];
    }
  });
}

function reasonOf({ reason }: Record<string, unknown>): string {
  return typeof reason === 'string' && reason !== '' ? `: ${reason}` : '';
}
