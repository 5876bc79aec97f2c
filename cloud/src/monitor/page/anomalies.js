import { byId, emptyState, h } from './dom.js';
import { clockTime, duration, fullTime, percent, times } from './format.js';
import { labelOf } from './labels.js';
import { changed, onChange, select, store } from './store.js';

/** Entries drawn; the others are in the log. */
const SHOWN_MAX = 100;
const BLAMED_SHOWN = 3;
/** A part below a hundredth explains nothing. */
const PART_MIN = 0.01;

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
    if (store.summary === null || !(changed.alarms || changed.models || changed.all || changed.selection))
      return;
    const alarms = [...store.alarms.values()].sort((a, b) => timeOf(b) - timeOf(a)).slice(0, SHOWN_MAX);
    follow(alarms);
    if (alarms.length > 0) arrange(list, alarms);
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

/** Entries by alarm, with what they were made of. @type {Map<string, { element: HTMLElement, text: string }>} */
let entries = new Map();

/** Makes anew only what changed, and leaves the focus where it is. */
function arrange(list, alarms) {
  const before = entries;
  entries = new Map();
  for (const alarm of alarms) {
    const set = store.signalSets[store.vehicles.get(alarm.vehicle)?.signalSet];
    const text = JSON.stringify([alarm, set?.length]);
    const known = before.get(alarm.key);
    const entry = known?.text === text ? known : { element: anomaly(alarm, set), text };
    entry.element.firstElementChild.setAttribute('aria-pressed', String(alarm.vehicle === store.selected));
    entries.set(alarm.key, entry);
  }
  const wanted = [...entries.values()].map(({ element }) => element);
  if (wanted.length === list.children.length && wanted.every((element, i) => element === list.children[i]))
    return;
  const focused = document.activeElement;
  list.replaceChildren(...wanted);
  if (list.contains(focused)) focused.focus({ preventScroll: true });
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

function anomaly(alarm, set) {
  const open = alarm.clearedAt === null;
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
        ...alarm.signals
          .filter(({ part }) => part >= PART_MIN)
          .slice(0, BLAMED_SHOWN)
          .map(({ name, part }) => blame(name, labelOf(name, set), part)),
      ),
      h(
        'small',
        {},
        `raised at ${times(alarm.score / alarm.threshold)} the threshold · model v${alarm.model.version}`,
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
