import { chart, color, cursor, faded, line, timeAxis, valueAxis } from './chart.js';
import { byId, emptyState, h } from './dom.js';
import { compact, count, rate } from './format.js';
import { changed, onChange, store } from './store.js';
import { key } from './training.js';

const TOPIC_HUES = {
  telemetry: 'accent',
  predictions: 'violet',
  'vehicle-events': 'warn',
  models: 'ok',
  campaigns: 'learn',
  clusters: 'violet',
  'signal-sets': 'off',
  'dead-letters': 'alarm',
};
const GROUP_HUES = ['violet', 'accent', 'warn', 'ok', 'learn', 'alarm'];

/** Records are whole. */
const WHOLE_STEPS = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power));

/** Records per second into the topics, and how far the consumer groups are behind. */
export function startLogCharts() {
  const throughput = area(byId('throughput'));
  const lag = area(byId('lag'));
  const table = h('div', { class: 'scroll-x' });
  byId('lag').append(table);
  onChange(() => {
    if (store.log === null || !(changed.log || changed.all)) return;
    const topics = store.log.topics.map(({ topic }) => topic);
    throughput.show(
      topics.map((topic) => ({
        name: topic,
        hue: TOPIC_HUES[topic] ?? 'off',
        of: ({ topics: rates }) => rates[topic] ?? null,
      })),
      rate,
    );
    const groups = [...new Set(store.log.groups.map(({ group }) => group))];
    lag.show(
      groups.map((group, i) => ({
        name: group,
        hue: GROUP_HUES[i % GROUP_HUES.length],
        of: ({ lags }) => lags[group] ?? null,
      })),
      compact,
    );
    table.replaceChildren(
      groups.length === 0
        ? emptyState(
            'No consumer group',
            'Whoever reads the log as a group shows here, with how far it is behind.',
          )
        : groupTable(),
    );
  });
}

/** A chart whose lines may come and go, with its legend. */
function area(container) {
  const plot = h('div', { class: 'plot' });
  const legend = h('p', { class: 'legend' });
  container.append(plot, legend);
  let lines = [];
  const picture = chart(plot, () => ({
    height: 200,
    legend: { show: false },
    cursor: cursor({ sync: { key: 'log' } }),
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(4, (high ?? 0) * 1.1)] } },
    axes: [timeAxis(), valueAxis(compact, { incrs: WHOLE_STEPS })],
    series: [
      {},
      ...lines.map(({ name, hue }, i) =>
        line(name, color(`--${hue}`), i === 0 ? { width: 2, fill: faded(color(`--${hue}`), 0.12) } : {}),
      ),
    ],
  }));
  let names = '';
  return {
    show(next, format) {
      const { samples } = store;
      const nextNames = next.map(({ name }) => name).join(' ');
      lines = next;
      plot.hidden = legend.hidden = next.length === 0;
      if (nextNames !== names) {
        names = nextNames;
        picture.setData([[], ...next.map(() => [])]);
        picture.rebuild();
      }
      picture.setData([samples.map(({ time }) => time), ...next.map(({ of }) => samples.map(of))]);
      const last = samples.at(-1);
      legend.replaceChildren(
        ...next.map(({ name, hue, of }) => key(hue, name, last === undefined ? '–' : format(of(last) ?? 0))),
      );
    },
  };
}

function groupTable() {
  const head = ['Group', 'Topic', 'Finished', 'In the topic', 'Lag', 'Per partition'];
  return h(
    'table',
    {},
    h('thead', {}, h('tr', {}, ...head.map((text) => h('th', {}, text)))),
    h('tbody', {}, ...store.log.groups.map(groupRow)),
  );
}

function groupRow({ group, topic, partitions, lag }) {
  const sum = (field) => partitions.reduce((total, partition) => total + partition[field], 0);
  const largest = Math.max(1, ...partitions.map((partition) => partition.lag));
  return h(
    'tr',
    {},
    h('td', {}, h('b', {}, group)),
    h('td', {}, topic),
    h('td', { class: 'n' }, count(sum('committed'))),
    h('td', { class: 'n' }, count(sum('latest'))),
    h(
      'td',
      { class: 'n' },
      h('span', { class: 'badge', 'data-state': lag === 0 ? 'ok' : 'learning' }, count(lag)),
    ),
    h(
      'td',
      {},
      h(
        'span',
        {
          class: 'bars',
          role: 'img',
          'aria-label': partitions.map((p) => `partition ${p.partition}: ${p.lag}`).join(', '),
        },
        ...partitions.map((partition) => {
          const element = h('i', { title: `partition ${partition.partition}: ${partition.lag} behind` });
          element.style.height = `${Math.max(8, (100 * partition.lag) / largest)}%`;
          return element;
        }),
      ),
    ),
  );
}
