import { signalSet } from '@cardan/shared';
import { describe, expect, it } from 'vitest';
import type { Delta, Snapshot } from '../../src/monitor/messages.ts';
import { FleetProjection, type ProjectionLimits } from '../../src/monitor/projection.ts';
import {
  anomaly,
  event,
  inLog,
  MODEL,
  NOON,
  prediction,
  published,
  reported,
  SIGNALS,
  telemetry,
} from './fixtures.ts';

/** Clock of the monitor. It has nothing to do with the data's own time. */
const NOW = Date.UTC(2026, 5, 1);

function projection(limits?: Partial<ProjectionLimits>): FleetProjection {
  const made = new FleetProjection(limits);
  made.apply('signal-sets', inLog(event(SIGNALS.id, 'io.cardan.signal-set', SIGNALS)), NOW, true);
  return made;
}

function changes(from: FleetProjection, since: number): Delta & Partial<Snapshot> {
  return JSON.parse(`{${from.changes(since, NOW).json}}`) as Delta;
}

describe('a car', () => {
  it('learns, gets its model, alarms and recovers', () => {
    const fleet = projection();
    const state = () => fleet.tiles(NOW)[0]?.state;
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a' })), NOW, true);
    expect(state()).toBe('learning');
    fleet.apply('models', inLog(...published('1')), NOW, true);
    fleet.apply('vehicle-events', inLog(event('a', 'io.cardan.vehicle.reported', reported('1'))), NOW, true);
    expect(state()).toBe('healthy');
    fleet.apply(
      'telemetry',
      inLog(telemetry({ vehicle: 'a', first: 1, time: NOON + 1000, scores: [6], version: '1' })),
      NOW,
      true,
    );
    fleet.apply(
      'vehicle-events',
      inLog(event('a', 'io.cardan.vehicle.anomaly', anomaly('raised', 'x'))),
      NOW,
      true,
    );
    expect(fleet.tiles(NOW)[0]).toMatchObject({
      state: 'alarm',
      ratio: 2,
      model: { version: '1' },
      outboxRows: 7,
    });
    fleet.apply(
      'vehicle-events',
      inLog(event('a', 'io.cardan.vehicle.anomaly', anomaly('cleared', 'x'), { time: NOON + 60_000 })),
      NOW,
      true,
    );
    expect(state()).toBe('healthy');
    expect(changes(fleet, 0).alarms).toMatchObject([
      { vehicle: 'a', raisedAt: NOON, clearedAt: NOON + 60_000 },
    ]);
  });

  it('is offline when the broker says so, or when nothing has come for half a minute', () => {
    const fleet = projection();
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a' })), NOW, true);
    expect(fleet.tiles(NOW + 29_999)[0]?.online).toBe(true);
    const before = fleet.revision;
    fleet.settle(NOW + 30_000);
    expect(fleet.tiles(NOW + 30_000)[0]?.state).toBe('offline');
    expect(fleet.revision).toBeGreaterThan(before);

    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', first: 1 })), NOW + 40_000, true);
    expect(fleet.tiles(NOW + 40_000)[0]?.state).toBe('learning');
    fleet.apply(
      'vehicle-events',
      inLog(event('a', 'io.cardan.vehicle.status', { online: false })),
      NOW + 40_000,
      true,
    );
    expect(fleet.tiles(NOW + 40_000)[0]?.state).toBe('offline');
  });

  it('loses its alarm when it boots: the new run cannot clear the one of the old', () => {
    const fleet = projection();
    fleet.apply(
      'vehicle-events',
      inLog(event('a', 'io.cardan.vehicle.anomaly', anomaly('raised', 'x'))),
      NOW,
      true,
    );
    fleet.apply(
      'vehicle-events',
      inLog(
        event('a', 'io.cardan.vehicle.boot', { agent: '1', signalSet: SIGNALS.id }, { time: NOON + 5000 }),
      ),
      NOW,
      true,
    );
    expect(fleet.summary(NOW).alarms).toBe(0);
    expect(changes(fleet, 0).alarms).toMatchObject([{ clearedAt: NOON + 5000 }]);
  });

  it('does not alarm of what is over: weeks offline come in newest first, boots before alarms', () => {
    const fleet = projection();
    // In the car: x raised and cleared, y raised, a boot, z raised. A recording is older than its boot.
    const said = (type: 'raised' | 'cleared', alarm: string, sequence: number) =>
      event('a', 'io.cardan.vehicle.anomaly', anomaly(type, alarm), {
        sequence,
        time: NOON + 1000 * sequence,
      });
    const boot = event(
      'a',
      'io.cardan.vehicle.boot',
      { agent: '1', signalSet: SIGNALS.id },
      { sequence: 4, time: NOON + 1_000_000 },
    );
    const arriving = [
      boot,
      said('raised', 'z', 5),
      said('raised', 'y', 3),
      said('cleared', 'x', 2),
      said('raised', 'x', 1),
    ];
    fleet.apply('vehicle-events', inLog(...arriving), NOW, true);
    expect(fleet.tiles(NOW)[0]?.state).toBe('alarm');
    expect(changes(fleet, 0).alarms).toMatchObject([
      { key: 'a z', raisedAt: NOON + 5000, clearedAt: null },
      { key: 'a y', raisedAt: NOON + 3000, clearedAt: NOON + 1_000_000 },
      { key: 'a x', raisedAt: NOON + 1000, clearedAt: NOON + 2000 },
    ]);
    fleet.apply('vehicle-events', inLog(said('cleared', 'z', 6)), NOW, true);
    expect(fleet.tiles(NOW)[0]?.state).not.toBe('alarm');
    expect(fleet.summary(NOW).alarms).toBe(0);
  });

  it('shows its rows with the cloud’s scores, each row once', () => {
    const fleet = projection();
    const rows = telemetry({
      vehicle: 'a',
      values: [
        [1, 2, 3],
        [4, Number.NaN, 6],
      ],
      scores: [0.5, Number.NaN],
      version: '1',
    });
    fleet.apply('models', inLog(...published('1')), NOW, true);
    fleet.apply('telemetry', inLog(rows, rows), NOW, true);
    fleet.apply('predictions', inLog(prediction({ vehicle: 'a', scores: [0.5, 0.75] })), NOW, true);
    const shown = fleet.vehicle('a', NOW)!;
    expect(shown.rows).toEqual({
      from: 0,
      to: 2,
      times: [NOON, NOON + 1000],
      columns: [
        [1, 4],
        [2, null],
        [3, 6],
      ],
      scores: [0.5, null],
      thresholds: [3, 3],
    });
    expect(shown.cloud).toEqual({ from: 0, to: 2, times: [NOON, NOON + 1000], scores: [0.5, 0.75] });
    expect(shown.signalSet).toEqual(SIGNALS);
    expect(fleet.duplicates).toBe(2);
    expect(fleet.read).toEqual({ records: 2, rows: 4, liveRows: 4 });
  });

  it('takes late rows in without going back in time', () => {
    const fleet = projection();
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', epoch: 2, time: NOON })), NOW, true);
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', epoch: 1, time: NOON - 3_600_000 })), NOW, true);
    expect(fleet.tiles(NOW)[0]).toMatchObject({ time: NOON, rows: 2 });
    expect(fleet.vehicle('a', NOW)?.rows.times).toEqual([NOON, NOON - 3_600_000]);
  });

  it('keeps showing its regular rows while a campaign collects others', () => {
    const fleet = projection();
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', scores: [1], version: '1' })), NOW, true);
    const campaign = telemetry({ vehicle: 'a', first: 1, set: 'f00', values: [[7]], campaign: 'brakes' });
    fleet.apply('telemetry', inLog(campaign), NOW, true);
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', first: 2, time: NOON + 1000 })), NOW, true);
    expect(fleet.vehicle('a', NOW)).toMatchObject({
      signalSet: SIGNALS,
      rows: { times: [NOON, NOON + 1000] },
    });
  });

  it('begins anew, and counts on, when it has other signals', () => {
    const fleet = projection();
    const other = signalSet([{ name: 'RPM', unit: 'rpm' }]);
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', scores: [1, 2], version: '1' })), NOW, true);
    fleet.apply(
      'telemetry',
      inLog(telemetry({ vehicle: 'a', epoch: 2, set: other.id, values: [[700]] })),
      NOW,
      true,
    );
    // Rows may come before the description of their columns.
    expect(fleet.vehicle('a', NOW)).toMatchObject({
      signalSet: { id: other.id, signals: [{ name: 'Signal 1' }] },
      rows: { from: 2, to: 3, columns: [[700]] },
    });
    fleet.apply('signal-sets', inLog(event(other.id, 'io.cardan.signal-set', other)), NOW, true);
    expect(fleet.vehicle('a', NOW, { rows: 3 })).toMatchObject({
      signalSet: other,
      rows: { from: 3, times: [] },
    });
  });

  it('takes an event once, however often it is delivered', () => {
    const fleet = projection();
    const raised = event('a', 'io.cardan.vehicle.anomaly', anomaly('raised', 'x'), { sequence: 1 });
    const cleared = event('a', 'io.cardan.vehicle.anomaly', anomaly('cleared', 'x'), { sequence: 2 });
    fleet.apply('vehicle-events', inLog(raised, cleared, raised), NOW, true);
    expect(fleet.summary(NOW).alarms).toBe(0);
    expect(changes(fleet, 0).alarms).toHaveLength(1);
  });
});

describe('the fleet', () => {
  it('has the median time of its cars, so that one wrong clock does not move it', () => {
    const fleet = projection();
    for (const [vehicle, time] of [
      ['a', NOON],
      ['b', NOON + 1000],
      ['c', NOON + 1e12],
    ] as const)
      fleet.apply('telemetry', inLog(telemetry({ vehicle, time })), NOW, true);
    expect(fleet.summary(NOW).fleetTime).toBe(NOON + 1000);
  });

  it('counts which cars run the version that was decided for them', () => {
    const fleet = projection();
    fleet.apply('models', inLog(...published('1'), ...published('2')), NOW, true);
    for (const [vehicle, version] of [
      ['a', '1'],
      ['b', '2'],
      ['c', '2'],
      ['d', null],
    ] as const)
      fleet.apply(
        'vehicle-events',
        inLog(event(vehicle, 'io.cardan.vehicle.reported', reported(version))),
        NOW,
        true,
      );
    fleet.settle(NOW);
    expect(fleet.summary(NOW)).toMatchObject({ vehicles: 4, decided: 4, upToDate: 2, learning: 1 });
    expect(fleet.listModels().models).toMatchObject([
      { version: '2', installed: 2, active: true, rows: 800, offsets: { '0': { from: 0, to: 40 } } },
      { version: '1', installed: 1, active: false },
    ]);
  });

  it('shows a training from the request to its end', () => {
    const fleet = projection();
    const states: unknown[] = [];
    const take = (...records: Parameters<typeof inLog>) => {
      fleet.apply('models', inLog(...records), NOW, true);
      states.push(fleet.listModels().trainings.map(({ state }) => state));
    };
    const training = 't1';
    take(event(training, 'io.cardan.training.requested', { training, signalSet: null, reason: 'asked' }));
    take(
      event(MODEL, 'io.cardan.training.started', {
        training,
        model: MODEL,
        signalSet: SIGNALS.id,
        reason: 'asked',
        rows: 10,
        vehicles: 2,
        epochs: 2,
      }),
    );
    take(
      event(MODEL, 'io.cardan.training.progress', {
        training,
        epoch: 1,
        epochs: 2,
        loss: 0.5,
        validationLoss: 0.6,
        rowsPerSecond: 9,
      }),
    );
    take(
      event(MODEL, 'io.cardan.training.completed', {
        training,
        model: MODEL,
        version: '1',
        rows: 10,
        threshold: 3,
        seconds: 2,
      }),
    );
    take(
      event(MODEL, 'io.cardan.training.failed', {
        training: 't2',
        model: MODEL,
        code: 'TRAINING_DIVERGED',
        message: 'Too fast.',
      }),
    );
    expect(states).toEqual([['requested'], ['running'], ['running'], ['completed'], ['failed', 'completed']]);
    expect(fleet.listModels().trainings).toMatchObject([
      { error: 'TRAINING_DIVERGED: Too fast.' },
      { progress: [[1, 0.5, 0.6]], version: '1', epochs: 2 },
    ]);
  });

  it('tells what changed, and only that', () => {
    const fleet = projection();
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a' }), telemetry({ vehicle: 'b' })), NOW, true);
    expect(changes(fleet, 0)).toMatchObject({ vehicles: [{ id: 'a' }, { id: 'b' }], alarms: [], models: [] });
    const seen = fleet.revision;
    expect(fleet.changes(seen, NOW)).toEqual({ json: '', complete: false });
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'b', first: 1 })), NOW, true);
    expect(Object.keys(changes(fleet, seen))).toEqual(['vehicles']);
    expect(changes(fleet, seen).vehicles).toMatchObject([{ id: 'b', rows: 2 }]);
  });

  it('gives ratios once the threshold of the model is known', () => {
    const fleet = projection();
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', scores: [1.5], version: '1' })), NOW, true);
    expect(fleet.tiles(NOW)[0]).toMatchObject({ ratio: null, spark: [] });
    const seen = fleet.revision;
    fleet.apply('models', inLog(...published('1', 2)), NOW, true);
    expect(changes(fleet, seen).vehicles).toMatchObject([{ ratio: 0.75, spark: [0.75] }]);
  });
});

describe('bounds', () => {
  it('keeps at most so many cars, drops the quietest, and tells every page anew', () => {
    const fleet = projection({ vehiclesMax: 3 });
    for (const vehicle of ['a', 'b', 'c']) fleet.apply('telemetry', inLog(telemetry({ vehicle })), NOW, true);
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'a', first: 1 })), NOW, true);
    const seen = fleet.revision;
    fleet.apply('telemetry', inLog(telemetry({ vehicle: 'd' })), NOW, true);
    expect(fleet.tiles(NOW).map(({ id }) => id)).toEqual(['a', 'c', 'd']);
    expect(fleet.forgotten).toBe(1);
    expect(fleet.changes(seen, NOW).complete).toBe(true);
  });

  it('takes the rows of the quietest car when memory is short', () => {
    // 64 rows of 3 signals are 1664 bytes: room for two cars.
    const fleet = projection({ seriesBytesMax: 3500 });
    for (const vehicle of ['a', 'b', 'c']) fleet.apply('telemetry', inLog(telemetry({ vehicle })), NOW, true);
    const rows = ['a', 'b', 'c'].map((vehicle) => fleet.vehicle(vehicle, NOW)?.rows.times.length);
    expect(rows).toEqual([0, 1, 1]);
  });

  it('counts what cannot be read, says why, and goes on', () => {
    const fleet = projection();
    const broken = { ...telemetry({ vehicle: 'a' }), value: Buffer.from([0xff]) };
    fleet.apply('telemetry', inLog(broken, telemetry({ vehicle: 'a' })), NOW, true);
    const odd = event('a', 'io.cardan.vehicle.anomaly', { state: 'raised' } as never);
    fleet.apply('vehicle-events', inLog(odd), NOW, true);
    fleet.apply('models', inLog(event(MODEL, 'io.cardan.model.published', {} as never)), NOW, true);
    expect(fleet.unreadable.records).toBe(3);
    expect(fleet.unreadable.last).toMatch(/^models offset 0: /);
    expect(fleet.tiles(NOW)).toMatchObject([{ rows: 1, state: 'learning' }]);
  });
});

describe('how the cars drive', () => {
  const learned = (windows: number) =>
    inLog(
      event(SIGNALS.id, 'io.cardan.clusters.learned', {
        signalSet: SIGNALS.id,
        states: [{ center: [50, 230, 231], windows }],
        clusters: [{ shares: [1], vehicles: 2 }],
      }),
    );

  it('is told when it is new, the newest for each signal set', () => {
    const fleet = projection();
    fleet.apply('clusters', learned(10), NOW, true);
    const { revision } = fleet;
    expect(changes(fleet, 0).clusters).toMatchObject([
      { states: [{ windows: 10 }], clusters: [{ vehicles: 2 }] },
    ]);
    expect(changes(fleet, revision).clusters).toBeUndefined();
    const assigned = { signalSet: SIGNALS.id, cluster: 0, before: null, shares: [1] };
    fleet.apply('clusters', inLog(event('a', 'io.cardan.vehicle.cluster-assigned', assigned)), NOW, true);
    expect(fleet.revision).toBe(revision);
    fleet.apply('clusters', learned(20), NOW, true);
    expect(changes(fleet, revision).clusters).toMatchObject([{ states: [{ windows: 20 }] }]);
  });

  it('stays what it was when an event cannot be read', () => {
    const fleet = projection();
    fleet.apply('clusters', learned(10), NOW, true);
    const broken = { signalSet: SIGNALS.id, states: [{ center: ['x'], windows: 1 }], clusters: [] };
    fleet.apply(
      'clusters',
      inLog(event(SIGNALS.id, 'io.cardan.clusters.learned', broken as never)),
      NOW,
      true,
    );
    expect(fleet.unreadable.records).toBe(1);
    expect(changes(fleet, 0).clusters).toMatchObject([{ states: [{ windows: 10 }] }]);
  });
});
