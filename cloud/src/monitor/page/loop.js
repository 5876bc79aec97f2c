import { byId, h, setText, svg } from './dom.js';
import { compact, count, duration, rate } from './format.js';
import { onChange, store } from './store.js';

/** Lines of the icons, in a box of 24. */
const ICONS = {
  cars: 'M3 15v-2.5l2-.8L7 8h9l3 3.7 2 .8V15M6.5 17.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM17 17.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM8.5 15.5h6.5',
  mqtt: 'M5 19a2 2 0 1 0-2-2M4 12a7 7 0 0 1 8 8M4 6.5A13 13 0 0 1 17.5 20',
  bridge: 'M3 17h18M5 17v-5a7 7 0 0 1 14 0v5M9 17v-9.3M12 17V7M15 17v-9.3',
  log: 'M4 6h16M4 10.5h16M4 15h16M4 19.5h10',
  trainer: 'M4 5v15h16M7 8c2 7 6 8 12 8.5',
  registry: 'M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6zM9 12l2.2 2.2L15.5 10',
};

const STAGES = [
  ['cars', 'Cars', 'sample, score, store'],
  ['mqtt', 'MQTT', 'QoS 1, acked by the log'],
  ['bridge', 'Bridge', ''],
  ['log', 'Log', ''],
  ['trainer', 'Trainer', ''],
  ['registry', 'Registry', ''],
];

/** The loop as a row of stages with live figures, and the way back to the cars. */
export function startLoop() {
  const stages = Object.fromEntries(
    STAGES.map(([key, name]) => {
      const stage = {
        figure: h('b', {}, '–'),
        unit: h('span', { class: 'unit' }),
        note: h('small', {}),
        meter: h('progress', { max: 1, value: 0, hidden: true, 'aria-label': `${name}: progress` }),
      };
      const icon = svg(
        'svg',
        { viewBox: '0 0 24 24', 'aria-hidden': 'true' },
        svg('path', { d: ICONS[key] }),
      );
      const item = h(
        'li',
        { 'data-stage': key },
        h('span', { class: 'stage-icon' }, icon),
        h('span', { class: 'stage-name' }, name),
        h('span', { class: 'stage-figure' }, stage.figure, ' ', stage.unit),
        stage.meter,
        stage.note,
      );
      byId('loop').append(item);
      return [key, stage];
    }),
  );
  const back = {
    text: h('span', {}),
    meter: h('progress', { max: 1, value: 0, 'aria-label': 'Cars that run the newest model' }),
  };
  byId('return').append(back.text, back.meter);

  const say = (key, figure, unit, note) => {
    const stage = stages[key];
    setText(stage.figure, figure);
    setText(stage.unit, unit);
    setText(stage.note, note);
  };

  onChange(() => {
    const { summary, log, models, trainings, vehicles } = store;
    if (summary === null || log === null) return;
    const topic = (name) => log.topics.find((entry) => entry.topic === name);
    const perSecond = (name) => topic(name)?.perSecond ?? 0;
    let waiting = 0;
    for (const { outboxRows } of vehicles.values()) waiting += outboxRows ?? 0;

    say(
      'cars',
      count(summary.online),
      summary.online === 1 ? 'car online' : 'cars online',
      `${compact(waiting)} rows in outboxes`,
    );
    say(
      'mqtt',
      rate(perSecond('telemetry') + perSecond('vehicle-events')),
      'messages/s',
      'QoS 1, acked by the log',
    );
    const letters = topic('dead-letters')?.appended ?? 0;
    say(
      'bridge',
      rate(summary.rowsPerSecond),
      'rows/s',
      letters === 0
        ? 'no unreadable message'
        : `${count(letters)} dead ${letters === 1 ? 'letter' : 'letters'}`,
    );
    const records = log.topics.reduce((sum, entry) => sum + entry.records, 0);
    say('log', compact(summary.rows), 'rows', `${compact(records)} records in ${log.topics.length} topics`);

    showTrainer(say, stages.trainer, trainings[0], models[0]);
    if (models.length === 0) say('registry', '–', '', 'no model published yet');
    else
      say(
        'registry',
        `v${models[0].version}`,
        'newest',
        `${models.length} ${models.length === 1 ? 'version' : 'versions'}, all signed`,
      );

    const flowing = summary.rowsPerSecond > 0 && store.connection === 'live';
    byId('loop').dataset.flowing = String(flowing);
    const { upToDate, decided } = summary;
    setText(
      back.text,
      decided === 0
        ? 'signed models will go back to the cars here'
        : `signed models go back: newest version on ${count(upToDate)} of ${count(decided)} cars`,
    );
    back.meter.hidden = decided === 0;
    back.meter.max = Math.max(1, decided);
    back.meter.value = upToDate;
    byId('return').dataset.moving = String(decided > 0 && upToDate < decided);
  });
}

function showTrainer(say, stage, training, model) {
  const running = training?.state === 'running';
  stage.meter.hidden = !running;
  if (running) {
    const epoch = training.progress.at(-1)?.[0] ?? 0;
    stage.meter.max = training.epochs ?? 1;
    stage.meter.value = epoch;
    say(
      'trainer',
      `${epoch}/${training.epochs ?? '?'}`,
      'epochs',
      `on ${compact(training.rows ?? 0)} rows from the log`,
    );
  } else if (training?.state === 'requested') say('trainer', 'Queued', '', training.reason);
  else if (training?.state === 'failed') say('trainer', 'Failed', '', training.error ?? '');
  else if (training?.state === 'completed')
    say(
      'trainer',
      `v${training.version}`,
      'trained',
      `${compact(training.rows)} rows in ${duration(training.seconds * 1000)}`,
    );
  else if (model !== undefined) say('trainer', `v${model.version}`, 'trained', `${compact(model.rows)} rows`);
  else say('trainer', 'Waiting', '', 'for enough rows in the log');
}
