import { byId, emptyState, h } from './dom.js';
import { count, fullTime, measure } from './format.js';
import { changed, onChange, store } from './store.js';

const HUES = ['accent', 'violet', 'ok', 'warn', 'learn'];

let shown = '';
let shownModels = '';

/** Published versions with their lineage, and which cars run which. */
export function startModels() {
  onChange(() => {
    if (store.summary === null) return;
    if (changed.models || changed.vehicles.size > 0 || changed.all) showDistribution();
    if (!(changed.models || changed.all)) return;
    // Trainings change far more often than versions, and a table that is made anew loses the focus.
    const text = JSON.stringify(store.models);
    if (text !== shownModels || text === '[]') showTable();
    shownModels = text;
  });
}

function showDistribution() {
  const counts = new Map();
  for (const { model } of store.vehicles.values()) {
    const key = model === null ? '' : `${model.name} ${model.version}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const known = new Map(store.models.map((model) => [`${model.name} ${model.version}`, model]));
  const order = [...counts.keys()].sort((a, b) => (a === '') - (b === '') || rank(b) - rank(a));
  const parts = order.map((key) => ({ key, cars: counts.get(key), ...describe(key, known) }));
  const text = JSON.stringify(parts);
  if (text === shown) return;
  shown = text;
  byId('distribution').replaceChildren(...(parts.length === 0 ? [] : [bar(parts), legend(parts)]));
}

/** The newest version first, whatever set it is for. */
function rank(key) {
  return Number(key.split(' ').at(-1)) || 0;
}

function describe(key, known) {
  if (key === '') return { label: 'no model', hue: 'off' };
  const [name, version] = key.split(' ');
  const model = known.get(key);
  const label = `v${version}${severalSets() ? ` ${shortSet(model?.signalSet ?? name)}` : ''}`;
  return { label, hue: HUES[(Number(version) - 1 + HUES.length) % HUES.length] ?? 'accent' };
}

function severalSets() {
  return new Set(store.models.map(({ signalSet }) => signalSet)).size > 1;
}

/** Enough of an id to tell sets apart. */
function shortSet(id) {
  return id.replace(/^anomaly-/, '').slice(0, 4);
}

function bar(parts) {
  const element = h('div', {
    class: 'stack',
    role: 'img',
    'aria-label': parts.map(({ label, cars }) => `${label}: ${cars} cars`).join(', '),
  });
  for (const { cars, hue, label } of parts) {
    const part = h('span', { 'data-hue': hue, title: `${label}: ${cars} cars` });
    part.style.flexGrow = String(cars);
    element.append(part);
  }
  return element;
}

function legend(parts) {
  return h(
    'p',
    { class: 'legend' },
    ...parts.map(({ label, cars, hue }) =>
      h(
        'span',
        { class: 'key', 'data-hue': hue },
        h('i', {}),
        label,
        ' ',
        h('b', {}, `${count(cars)} ${cars === 1 ? 'car' : 'cars'}`),
      ),
    ),
  );
}

function showTable() {
  const { models } = store;
  const container = byId('models');
  if (models.length === 0) {
    container.replaceChildren(
      emptyState(
        'No model published',
        'Each version stands here with the exact part of the log that made it.',
      ),
    );
    return;
  }
  const open = new Set(
    [...container.querySelectorAll('details[open]')].map((details) => details.dataset.key),
  );
  const head = ['Version', 'Published', 'Rows', 'Cars', 'Threshold', 'Installed', 'Lineage'];
  container.replaceChildren(
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, ...head.map((text) => h('th', {}, text)))),
      h('tbody', {}, ...models.map((model) => row(model, open))),
    ),
  );
}

function row(model, open) {
  const key = `${model.name} ${model.version}`;
  const records = Object.values(model.offsets).reduce((sum, { from, to }) => sum + to - from, 0);
  return h(
    'tr',
    {},
    h(
      'td',
      { title: model.name },
      h('b', {}, `v${model.version}`),
      ' ',
      severalSets() ? h('span', { class: 'hint' }, shortSet(model.signalSet)) : null,
      model.active ? h('span', { class: 'badge', 'data-state': 'ok' }, 'active') : null,
    ),
    h('td', {}, fullTime(model.createdAt)),
    h('td', { class: 'n' }, count(model.rows)),
    h('td', { class: 'n' }, count(model.vehicles)),
    h('td', { class: 'n' }, measure(model.threshold)),
    h('td', { class: 'n' }, count(model.installed)),
    h(
      'td',
      {},
      h(
        'details',
        { 'data-key': key, open: open.has(key) },
        h('summary', {}, `${count(records)} records`),
        h('dl', { class: 'lineage' }, ...lineage(model)),
      ),
    ),
  );
}

function lineage(model) {
  const offsets = Object.entries(model.offsets).map(
    ([partition, { from, to }]) => `${partition}: ${from}–${to}`,
  );
  const facts = {
    'telemetry offsets': offsets.join(', '),
    'data from': fullTime(model.span.from),
    to: fullTime(model.span.to),
    'rows left out': `${count(model.rowsExcluded)} (alarms)`,
    signals: count(model.signals),
    'signal set': model.signalSet,
    parent: model.parent === null ? 'none' : `v${model.parent.version}`,
    seed: String(model.seed),
    code: model.codeVersion,
    ...Object.fromEntries(
      Object.entries(model.metrics).map(([name, value]) => [name.replaceAll('_', ' '), measure(value)]),
    ),
  };
  return Object.entries(facts).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]);
}
