import { byId, emptyState, h } from './dom.js';
import { count, measure } from './format.js';
import { labelOf } from './labels.js';
import { changed, onChange, store } from './store.js';

const SIGNALS_SHOWN = 5;

/** Driving states with the signals that tell them apart, and how many cars are in each cluster. */
export function startClusters() {
  onChange(() => {
    if (store.summary === null || !(changed.clusters || changed.models || changed.all)) return;
    const sets = store.clusters;
    byId('clusters').replaceChildren(
      ...(sets.length === 0
        ? [
            emptyState(
              'Nothing learned yet',
              'The learner tells driving states apart when it has seen some minutes of the cars.',
            ),
          ]
        : sets.slice(-1).map(table)),
    );
  });
}

function table({ signalSet, states, clusters }) {
  const names = store.signalSets[signalSet] ?? [];
  const columns = tellingColumns(states);
  const windows = states.reduce((sum, state) => sum + state.windows, 0);
  const head = [
    'Driving state',
    'Time',
    ...columns.map((column) => (names[column] ? labelOf(names[column], names) : `Signal ${column + 1}`)),
    ...clusters.map((cluster, i) => `Cluster ${i + 1}: ${count(cluster.vehicles)} ${cars(cluster.vehicles)}`),
  ];
  const rows = states.map((state, i) =>
    h(
      'tr',
      {},
      h('td', {}, h('b', {}, String(i + 1))),
      h('td', { class: 'n' }, part(windows === 0 ? 0 : state.windows / windows)),
      ...columns.map((column) => h('td', { class: 'n' }, measure(state.center[column]))),
      ...clusters.map(({ shares }) => h('td', { class: 'n' }, part(shares[i] ?? 0))),
    ),
  );
  return h(
    'table',
    {},
    h('thead', {}, h('tr', {}, ...head.map((text) => h('th', {}, text)))),
    h('tbody', {}, ...rows),
  );
}

/** The signals whose means differ most between the states, beside their size. */
function tellingColumns(states) {
  const difference = (column) => {
    const values = states.map(({ center }) => center[column]);
    const size = Math.max(...values.map(Math.abs));
    return size === 0 ? 0 : (Math.max(...values) - Math.min(...values)) / size;
  };
  const columns = (states[0]?.center ?? []).map((_, column) => column);
  return columns
    .sort((a, b) => difference(b) - difference(a))
    .slice(0, SIGNALS_SHOWN)
    .sort((a, b) => a - b);
}

function cars(vehicles) {
  return vehicles === 1 ? 'car' : 'cars';
}

function part(share) {
  return `${Math.round(100 * share)} %`;
}
