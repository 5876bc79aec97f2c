import { byId, emptyState, h } from './dom.js';
import { clockTime, duration, fullTime, percent, times } from './format.js';
import { shortLabels } from './labels.js';
import { changed, onChange, select, store } from './store.js';

/** Entries drawn; the others are in the log. */
const SHOWN_MAX = 100;
const BLAMED_SHOWN = 3;

/** Alarms of the models in the cars, newest first. */
export function startAnomalies() {
  const list = byId('anomalies');
  list.addEventListener('click', (event) => {
    const item = event.target.closest('[data-vehicle]');
    if (item === null) return;
    byId('follow').checked = false;
    select(item.dataset.vehicle);
  });
  onChange(() => {
    if (store.summary === null || !(changed.alarms || changed.all || changed.selection)) return;
    const alarms = [...store.alarms.values()].sort((a, b) => timeOf(b) - timeOf(a)).slice(0, SHOWN_MAX);
    follow(alarms);
    if (alarms.length > 0) list.replaceChildren(...alarms.map(anomaly));
    else
      list.replaceChildren(
        h(
          'li',
          {},
          emptyState(
            'No anomalies',
            'When the model in a car sees driving it has not learned, it says so here.',
          ),
        ),
      );
  });
}

/** Selects the car of the newest alarm, until somebody chooses a car. */
function follow(alarms) {
  if (!byId('follow').checked) return;
  const newest = alarms.find(({ key }) => changed.newAlarms.has(key));
  const first =
    changed.all && store.selected === null ? alarms.find(({ clearedAt }) => clearedAt === null) : null;
  const alarm = newest ?? first;
  if (alarm) select(alarm.vehicle);
}

function timeOf(alarm) {
  return alarm.raisedAt ?? alarm.clearedAt;
}

function anomaly(alarm) {
  const open = alarm.clearedAt === null;
  const labels = shortLabels(alarm.signals.map(({ name }) => name));
  const lasted =
    alarm.raisedAt !== null && !open
      ? `cleared after ${duration(alarm.clearedAt - alarm.raisedAt)}`
      : 'cleared';
  return h(
    'li',
    {},
    h(
      'button',
      {
        type: 'button',
        class: `anomaly${changed.newAlarms.has(alarm.key) ? ' fresh' : ''}`,
        'data-open': open,
        'data-vehicle': alarm.vehicle,
        'aria-pressed': alarm.vehicle === store.selected,
      },
      h(
        'span',
        { class: 'anomaly-head' },
        h('b', {}, alarm.vehicle),
        h('span', { class: 'badge', 'data-state': open ? 'alarm' : 'cleared' }, open ? 'raised' : lasted),
        h('time', { title: fullTime(timeOf(alarm)) }, clockTime(timeOf(alarm))),
      ),
      h(
        'span',
        { class: 'blame' },
        ...alarm.signals.slice(0, BLAMED_SHOWN).map(({ name, part }, i) => blame(name, labels[i], part)),
      ),
      h(
        'small',
        {},
        `score ${times(alarm.score / alarm.threshold)} the threshold · model v${alarm.model.version}`,
      ),
    ),
  );
}

function blame(name, label, part) {
  const bar = h('i', {});
  bar.style.width = `${Math.min(100, part * 100)}%`;
  return h(
    'span',
    { class: 'blamed', title: name },
    h('span', { class: 'blamed-name' }, label),
    h('span', { class: 'blamed-bar' }, bar),
    h('span', { class: 'blamed-part' }, percent(part)),
  );
}
