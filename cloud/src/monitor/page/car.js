import { CarData } from './car-data.js';
import { chart, color, cursor, faded, line, timeAxis, valueAxis } from './chart.js';
import { byId, emptyState, h, setText } from './dom.js';
import { clockTime, count, duration, fullTime, measure, percent, times, unitText } from './format.js';
import { labelOf, shortLabels } from './labels.js';
import { changed, onChange, select, store } from './store.js';
import { key } from './training.js';

/** Least time between two questions for news of the car. */
const PAUSE_MS = 400;
/** Signals drawn at once; a set may have a thousand. */
const SIGNALS_SHOWN = 48;
/** Room over the threshold even while all scores are low. */
const HEADROOM = 1.4;

/** @type {CarData | null} */
let data = null;
/** @type {{ score: any, signals: any[], parts: any } | null} */
let view = null;
let asking = false;
let again = false;
let showAll = false;

/** The car that is selected: its scores over time, its signals, and what it says of itself. */
export function startCar() {
  byId('car').replaceChildren(h('header', {}, h('h2', { id: 'car-head' }, 'Car')), emptyCar());
  onChange(() => {
    if (store.summary === null) return;
    if (store.selected === null && store.vehicles.size > 0) {
      const ids = [...store.vehicles.keys()].sort();
      select(ids.find((id) => store.vehicles.get(id).state === 'alarm') ?? ids[0]);
    }
    const { selected } = store;
    if (selected === null) return;
    if (data?.id !== selected) {
      data = new CarData(selected);
      showAll = false;
      void ask();
    } else if (changed.all) {
      // A new connection may be to a new monitor, which counts rows from its own start.
      data = new CarData(selected);
      void ask();
    } else if (changed.vehicles.has(selected) || changed.alarms) void ask();
  });
}

/** Asks for what is new of the car; one question at a time. */
async function ask() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  again = false;
  const asked = data;
  try {
    const answer = await fetch(`./api/vehicles/${encodeURIComponent(asked.id)}?${asked.query}`);
    if (asked === data && answer.ok) {
      const renamed = asked.take(await answer.json());
      if (asked === data) show(renamed);
    } else if (asked === data) showUnknown(asked.id);
  } catch {
    // The stream of events says whether there is a connection.
  }
  setTimeout(
    () => {
      asking = false;
      if (again) void ask();
    },
    asked === data ? PAUSE_MS : 0,
  );
}

function emptyCar() {
  return emptyState('No car chosen', 'Choose one above to see its score and its signals.');
}

function showUnknown(id) {
  destroy();
  byId('car').replaceChildren(
    h('header', {}, h('h2', { id: 'car-head' }, id)),
    emptyState('Not seen', 'Nothing of this car is in the part of the log that is shown.'),
  );
}

function show(renamed) {
  if (view === null || renamed) build();
  const { facts } = data;
  fillHead(facts);
  const { times: axis, pick } = data.inOrder();
  const cloud = data.times.map((time) => data.cloud.get(time) ?? null);
  view.score.setData([axis, pick(cloud), pick(data.scores), pick(data.thresholds)]);
  fillScoreLegend(cloud);
  order(facts);
  for (const signal of view.signals) {
    if (signal.card.hidden) continue;
    const column = data.columns[signal.index] ?? [];
    signal.plot.setData([axis, pick(column)]);
    signal.showValue(null);
  }
}

function destroy() {
  view?.score.destroy();
  for (const { plot } of view?.signals ?? []) plot.destroy();
  view = null;
}

function build() {
  destroy();
  const parts = {
    badge: h('span', { class: 'badge' }),
    facts: h('dl', { class: 'car-facts' }),
    legend: h('p', { class: 'legend' }),
    grid: h('div', { class: 'multiples' }),
    more: h('button', { type: 'button', class: 'action', hidden: true }),
    alarm: h('p', { class: 'car-alarm', hidden: true }),
  };
  const plot = h('div', { class: 'plot' });
  const { id, signalSet } = data;
  byId('car').replaceChildren(
    h('header', {}, h('h2', { id: 'car-head' }, id), parts.badge, h('span', { class: 'hint' }, 'data time')),
    parts.facts,
    parts.alarm,
    plot,
    parts.legend,
    parts.grid,
    parts.more,
  );
  const labels = shortLabels((signalSet?.signals ?? []).map(({ name }) => name));
  view = {
    parts,
    score: chart(plot, scoreOptions),
    signals: (signalSet?.signals ?? []).map((signal, index) => multiple(signal, labels[index], index)),
  };
  parts.grid.append(...view.signals.map(({ card }) => card));
  parts.more.addEventListener('click', () => {
    showAll = !showAll;
    show(false);
  });
}

function scoreOptions() {
  return {
    height: 220,
    legend: { show: false },
    cursor: cursor({ sync: { key: 'car' } }),
    scales: {
      y: {
        range: (_plot, _low, high) => [
          0,
          Math.max((high ?? 0) * 1.08, HEADROOM * (data?.facts?.vehicle.threshold ?? 0), 0.1),
        ],
      },
    },
    axes: [timeAxis(), valueAxis(measure)],
    series: [
      {},
      // Broad and below the car's own: where both agree, the car's line runs in the middle of the cloud's.
      line('cloud', faded(color('--violet'), 0.5), { width: 5 }),
      line('car', color('--accent'), { width: 1.6, fill: faded(color('--accent'), 0.08) }),
      line('threshold', color('--alarm'), { dash: [8, 5], width: 1.2 }),
    ],
    hooks: { drawClear: [shadeAlarms] },
  };
}

/** Shades the spans in which the car had an alarm. */
function shadeAlarms(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = faded(color('--alarm'), 0.13);
  for (const { raisedAt, clearedAt } of data?.facts?.alarms ?? []) {
    const left = raisedAt === null ? bbox.left : plot.valToPos(raisedAt, 'x', true);
    const right = clearedAt === null ? bbox.left + bbox.width : plot.valToPos(clearedAt, 'x', true);
    const from = Math.max(left, bbox.left);
    const to = Math.min(right, bbox.left + bbox.width);
    if (to > from) ctx.fillRect(from, bbox.top, Math.max(to - from, 1), bbox.height);
  }
  ctx.restore();
}

function multiple({ name, unit }, label, index) {
  const value = h('b', {});
  const share = h('span', { class: 'badge', 'data-state': 'alarm', hidden: true });
  const plotElement = h('div', { class: 'plot' });
  const card = h(
    'figure',
    { title: name },
    h(
      'figcaption',
      {},
      ...signalName(label),
      share,
      h('span', { class: 'signal-value' }, value, ' ', unitText(unit)),
    ),
    plotElement,
  );
  const shown = { card, share, index, name, part: 0, plot: null, showValue: null };
  shown.showValue = (at) => {
    const column = data?.columns[index] ?? [];
    setText(value, measure(at === null ? lastSeen(column) : at));
  };
  shown.plot = chart(plotElement, () => ({
    height: 56,
    legend: { show: false },
    padding: [4, 0, 4, 0],
    cursor: cursor({ sync: { key: 'car' } }),
    scales: { y: { range: (_plot, low, high) => around(low, high) } },
    axes: [{ show: false }, { show: false }],
    series: [{}, line(label, color(shown.part > 0 ? '--alarm' : '--signal'))],
    hooks: {
      drawClear: [shadeAlarms],
      setCursor: [
        (plot) =>
          shown.showValue(
            plot.cursor.idx === null || plot.cursor.left < 0 ? null : plot.data[1][plot.cursor.idx],
          ),
      ],
    },
  }));
  return shown;
}

/** What tells a signal from its siblings must be readable in a narrow card. */
function signalName(label) {
  const [base, place] = label.split(' · ');
  return [
    h('span', { class: 'signal-name' }, base),
    place === undefined ? '' : h('span', { class: 'signal-place' }, place),
  ];
}

/** A constant signal stands in the middle, not on the edge. */
function around(low, high) {
  if (low === null || high === null) return [0, 1];
  const room = high > low ? (high - low) * 0.1 : Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

function lastSeen(column) {
  for (let i = column.length - 1; i >= 0; i--) if (column[i] !== null) return column[i];
  return null;
}

/** The signals that the newest alarm blames come first; beyond a number the others wait for a click. */
function order(facts) {
  const alarm = facts.alarms.at(-1);
  const parts = new Map((alarm?.signals ?? []).map(({ name, part }) => [name, part]));
  for (const signal of view.signals) {
    const part = parts.get(signal.name) ?? 0;
    // A part below a tenth blames nobody.
    const blamed = part >= 0.1 ? part : 0;
    if (signal.part > 0 !== blamed > 0) {
      signal.part = blamed;
      signal.plot.rebuild();
    }
    signal.part = blamed;
    signal.share.hidden = blamed === 0;
    signal.card.classList.toggle('blamed-card', blamed > 0);
    setText(signal.share, percent(blamed));
  }
  const sorted = [...view.signals].sort((a, b) => b.part - a.part || a.index - b.index);
  sorted.forEach((signal, rank) => {
    signal.card.style.order = String(rank);
    signal.card.hidden = !showAll && rank >= SIGNALS_SHOWN;
  });
  const { more } = view.parts;
  more.hidden = view.signals.length <= SIGNALS_SHOWN;
  setText(more, showAll ? `Show ${SIGNALS_SHOWN} signals` : `Show all ${view.signals.length} signals`);
  showAlarm(alarm);
}

function showAlarm(alarm) {
  const { alarm: element } = view.parts;
  element.hidden = alarm === undefined;
  if (alarm === undefined) return;
  const open = alarm.clearedAt === null;
  element.dataset.open = String(open);
  const set = data.signalSet?.signals.map(({ name }) => name);
  const blamed = alarm.signals.slice(0, 3).map(({ name, part }) => `${labelOf(name, set)} ${percent(part)}`);
  const when = alarm.raisedAt === null ? '' : ` ${clockTime(alarm.raisedAt)}`;
  const end = open
    ? 'still on'
    : alarm.raisedAt === null
      ? 'cleared'
      : `cleared after ${duration(alarm.clearedAt - alarm.raisedAt)}`;
  setText(
    element,
    `Alarm${when}, ${end}: ${blamed.join(', ')} (raised at ${times(alarm.score / alarm.threshold)} the threshold)`,
  );
}

function fillScoreLegend(cloud) {
  const { vehicle } = data.facts;
  view.parts.legend.replaceChildren(
    key('accent', 'score in the car', measure(lastSeen(data.scores))),
    key('violet', 'score in the cloud', measure(lastSeen(cloud))),
    key('alarm', 'threshold', measure(vehicle.threshold)),
    h('span', { class: 'key', 'data-hue': 'shade' }, h('i', {}), 'alarm'),
  );
}

const STATES = { alarm: 'alarm', healthy: 'ok', learning: 'learning', offline: 'off' };

function fillHead({ vehicle }) {
  const { badge, facts } = view.parts;
  setText(badge, vehicle.state);
  badge.dataset.state = STATES[vehicle.state];
  const { reported, model, decided } = vehicle;
  const behind = decided !== null && model !== null && decided.version !== model.version;
  const entries = [
    [
      'Model',
      model === null ? 'none yet' : `v${model.version}${behind ? `, v${decided.version} on its way` : ''}`,
      model?.name,
    ],
    [
      'Score',
      `${measure(vehicle.score)} (${times(vehicle.ratio)})`,
      'newest score, and its ratio to the threshold',
    ],
    ['Last row', clockTime(vehicle.time), vehicle.time === null ? '' : fullTime(vehicle.time)],
    ['Rows read', count(vehicle.rows), 'rows that this monitor has read'],
    [
      'Outbox',
      reported === null ? '–' : `${count(reported.outboxRows)} rows`,
      'rows that were waiting in the car when it last reported',
    ],
    [
      'Dropped',
      reported === null ? '–' : count(reported.dropped.rows + reported.dropped.events),
      'rows and events that the car has lost since its outbox was made',
    ],
    [
      'CAN frames',
      reported === null ? '–' : count(reported.frames.received),
      reported === null
        ? ''
        : `${count(reported.frames.unknown)} unknown, ${count(reported.frames.malformed)} malformed`,
    ],
    ['Agent', reported?.agent ?? '–', ''],
  ];
  if (reported?.error) entries.push(['Update failed', reported.error, '']);
  facts.replaceChildren(
    ...entries.map(([name, value, title]) =>
      h('div', { title: title ?? '' }, h('dt', {}, name), h('dd', {}, value)),
    ),
  );
}
