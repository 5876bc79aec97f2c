import { join } from 'node:path';
import { cloudEvent } from '@cardan/shared';
import { AGENT_DEFAULTS } from '../../src/config.ts';
import { Outbox, type Clock, type OutboxOptions, type RowContext } from '../../src/outbox.ts';

export const context = { signalSet: 'abc', modelName: '', modelVersion: '' };

/** A clock that stands still until it is told to go on. */
export class FakeClock implements Clock {
  boot = 'boot-1';
  monotonic = 1000;
  wall = Date.UTC(2026, 0, 1);
  isKnown = true;

  monotonicMs = () => this.monotonic;
  wallMs = () => this.wall;
  known = () => this.isKnown;

  pass(ms: number): void {
    this.monotonic += ms;
    this.wall += ms;
  }
}

export function openOutbox(dir: string, options: Partial<OutboxOptions> = {}): Outbox {
  return new Outbox({ ...AGENT_DEFAULTS.outbox, path: join(dir, 'outbox.db'), ...options });
}

export function addRows(outbox: Outbox, from: number, to: number, of: Partial<RowContext> = {}) {
  const whole = { ...context, ...of };
  for (let time = from; time < to; time++) outbox.addRow(time, Float32Array.of(time), undefined, whole);
  outbox.flush();
}

export function addAlarm(outbox: Outbox, time: number) {
  outbox.addEvent(({ epoch, sequence }) =>
    cloudEvent(
      'io.cardan.vehicle.anomaly',
      { source: '/vehicles/a', id: `${epoch}-${sequence}`, time },
      {
        state: 'raised',
        alarm: `a-${time}`,
        model: { name: 'm', version: '1' },
        score: 2,
        threshold: 1,
        signals: [],
      },
    ),
  );
}

export function addBoot(outbox: Outbox, time: number) {
  outbox.addEvent(({ epoch, sequence }) =>
    cloudEvent(
      'io.cardan.vehicle.boot',
      { source: '/vehicles/a', id: `${epoch}-${sequence}`, time },
      { agent: '1', signalSet: 'abc' },
    ),
  );
}

/** The times of all rows that wait, in the order in which they are sent; empties the outbox. */
export function takeAll(outbox: Outbox): number[] {
  const times: number[] = [];
  for (let batch = outbox.oldestRows(1000); batch !== undefined; batch = outbox.oldestRows(1000)) {
    times.push(...batch.times);
    outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
  }
  return times;
}
