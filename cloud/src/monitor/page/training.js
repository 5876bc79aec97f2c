import { chart, color, cursor, line, valueAxis } from './chart.js';
import { byId, emptyState, h, setText } from './dom.js';
import { compact, count, duration, measure } from './format.js';
import { changed, onChange, store } from './store.js';

/** The loss of the training that runs, or of the last one; and a button that asks for another. */
export function startTraining() {
  const container = byId('training');
  const facts = h('p', { class: 'facts' });
  const legend = h('p', { class: 'legend' });
  const plot = h('div', { class: 'plot' });
  const meter = h('progress', { class: 'wide', max: 1, value: 0, 'aria-label': 'Progress of the training' });
  const empty = emptyState(
    'No training yet',
    'The trainer reads the log itself, and begins as soon as there are enough rows.',
  );
  container.append(empty, meter, plot, legend, facts);
  const losses = chart(plot, () => ({
    height: 190,
    scales: { x: { time: false }, y: { distr: 3 } },
    legend: { show: false },
    cursor: cursor(),
    axes: [
      { ...valueAxis((value) => String(value)), size: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200] },
      valueAxis(measure),
    ],
    series: [
      {},
      line('training', color('--accent'), { width: 2 }),
      line('validation', color('--violet'), { width: 2, dash: [6, 4] }),
    ],
  }));
  startButton();

  onChange(() => {
    if (store.summary === null || !(changed.models || changed.all)) return;
    const { trainings } = store;
    // A queued request has no curve yet: the one before stays.
    const training = trainings.find(({ state }) => state !== 'requested') ?? trainings[0];
    const badge = byId('training-state');
    const state = trainings[0]?.state ?? '';
    setText(badge, state);
    badge.className = state === '' ? '' : 'badge';
    badge.dataset.state =
      { running: 'live', completed: 'ok', failed: 'alarm', requested: 'learning' }[state] ?? '';
    empty.hidden = training !== undefined;
    plot.hidden = legend.hidden = facts.hidden = training === undefined;
    meter.hidden = trainings[0]?.state !== 'running';
    if (training === undefined) return;
    const { progress, epochs } = training;
    meter.max = epochs ?? 1;
    meter.value = progress.at(-1)?.[0] ?? 0;
    plot.hidden = legend.hidden = progress.length === 0;
    losses.setData([
      progress.map(([epoch]) => epoch),
      progress.map(([, loss]) => positive(loss)),
      progress.map(([, , loss]) => positive(loss)),
    ]);
    const [, loss, validation] = progress.at(-1) ?? [];
    legend.replaceChildren(
      key('accent', 'training loss', measure(loss)),
      key('violet', 'validation loss', measure(validation)),
      h('span', { class: 'hint' }, `epoch ${progress.at(-1)?.[0] ?? 0} of ${epochs ?? '?'}`),
    );
    setText(facts, factsOf(training));
    facts.classList.toggle('bad', training.state === 'failed');
  });
}

function factsOf(training) {
  if (training.state === 'failed') return training.error ?? 'failed';
  const parts = [];
  if (training.version !== null) parts.push(`version ${training.version}`);
  if (training.rows !== null) parts.push(`${count(training.rows)} rows`);
  if (training.vehicles !== null) parts.push(`${count(training.vehicles)} cars`);
  if (training.rowsPerSecond !== null) parts.push(`${compact(training.rowsPerSecond)} rows/s`);
  if (training.seconds !== null) parts.push(`took ${duration(training.seconds * 1000)}`);
  if (training.reason !== '') parts.push(training.reason);
  return parts.join(' · ');
}

/** A logarithmic axis takes no zero. */
function positive(value) {
  return value > 0 ? value : null;
}

/** One entry of a legend. */
export function key(hue, label, value) {
  return h('span', { class: 'key', 'data-hue': hue }, h('i', {}), label, ' ', h('b', {}, value));
}

function startButton() {
  const button = byId('train');
  let until = 0;
  button.addEventListener('click', async () => {
    if (Date.now() < until) return;
    // One request is enough; what becomes of it comes back as an event.
    until = Date.now() + 3000;
    button.disabled = true;
    setText(button, 'Asking …');
    setText(button, await requestTraining());
    setTimeout(() => {
      button.disabled = false;
      setText(button, 'Train now');
    }, 3000);
  });
}

async function requestTraining() {
  try {
    const answer = await fetch('./api/trainings', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    return answer.ok ? 'Queued' : `Refused (${answer.status})`;
  } catch {
    return 'No connection';
  }
}
