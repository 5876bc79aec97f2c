import { byId, h, setText } from './dom.js';
import { clockTime, count, duration, fullTime, rate } from './format.js';
import { onChange, store } from './store.js';

/** Events come at least once a second; after this long the picture is old. */
const STALE_MS = 6000;

const LIVE_TEXTS = {
  connecting: 'Connecting',
  reading: 'Reading the log',
  live: 'Live',
  stale: 'No news',
  lost: 'Reconnecting',
};

/** The bar on top: is it live, and the figures of the fleet. */
export function startHeader() {
  const figures = {
    time: byId('fleet-time'),
    rate: byId('rows-rate'),
    rows: byId('rows-total'),
    alarms: byId('alarm-count'),
    online: byId('online-count'),
  };
  onChange(() => {
    showConnection();
    const { summary } = store;
    if (summary === null) return;
    setText(byId('title'), store.title);
    setText(figures.time, clockTime(summary.fleetTime));
    figures.time.title = summary.fleetTime === null ? '' : fullTime(summary.fleetTime);
    setText(figures.rate, rate(summary.rowsPerSecond));
    setText(figures.rows, `${summary.rowsExact ? '' : '≈ '}${count(summary.rows)}`);
    setText(figures.alarms, count(summary.alarms));
    figures.alarms.classList.toggle('bad', summary.alarms > 0);
    setText(figures.online, `${count(summary.online)} / ${count(summary.vehicles)}`);
    document.title = summary.alarms > 0 ? `(${summary.alarms}) Cardan` : 'Cardan';
    showFoot();
  });
  setInterval(showConnection, 1000);
}

function showConnection() {
  const live = byId('live');
  const banner = byId('banner');
  const { connection, summary, heardAt } = store;
  const age = Date.now() - heardAt;
  const stale = connection === 'live' && age > STALE_MS;
  const state = stale ? 'stale' : connection === 'live' && summary.catchingUp ? 'reading' : connection;
  live.dataset.state = state;
  setText(live.lastElementChild, LIVE_TEXTS[state]);
  const problem =
    connection === 'lost' || stale
      ? `The monitor does not answer. What you see is ${duration(age)} old; the page goes on by itself.`
      : (summary?.problem ?? null);
  banner.hidden = problem === null;
  setText(banner, problem ?? '');
}

function showFoot() {
  const { log, registryUrl } = store;
  if (log === null) return;
  const parts = [`${count(log.duplicates)} redelivered rows dropped`];
  if (log.unreadable.records > 0)
    parts.push(`${count(log.unreadable.records)} unreadable records (${log.unreadable.last})`);
  const foot = byId('foot');
  const text = `Everything here is a projection of the log. ${parts.join(' · ')}`;
  if (foot.firstChild?.textContent === text) return;
  foot.replaceChildren(
    h('span', {}, text),
    ...(registryUrl === null
      ? []
      : [h('a', { href: registryUrl, rel: 'noreferrer' }, 'Registry and distribution API')]),
  );
}
