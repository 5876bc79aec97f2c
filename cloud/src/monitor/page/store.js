/**
 * Everything that the page knows, as the monitor told it (cloud/src/monitor/messages.ts).
 * @typedef {{ connection: 'connecting' | 'live' | 'lost', heardAt: number, title: string,
 *   registryUrl: string | null, summary: any, vehicles: Map<string, any>, alarms: Map<string, any>,
 *   trainings: any[], models: any[],
 *   signalSets: Record<string, string[]>, log: any, samples: any[], selected: string | null }} Store
 */

/** Samples behind the charts: five minutes, as the monitor keeps them. */
const SAMPLES_MAX = 300;
/** As many alarms as the monitor keeps. */
const ALARMS_MAX = 500;
const RETRY_MS = 2000;

/** @type {Store} */
export const store = {
  connection: 'connecting',
  heardAt: 0,
  title: '',
  registryUrl: null,
  summary: null,
  vehicles: new Map(),
  alarms: new Map(),
  trainings: [],
  models: [],
  clusters: [],
  signalSets: {},
  log: null,
  samples: [],
  selected: null,
};

/** What changed; a view looks at it to leave alone what did not. */
export const changed = {
  all: true,
  /** @type {Set<string>} */
  vehicles: new Set(),
  /** @type {Set<string>} */
  newAlarms: new Set(),
  alarms: false,
  models: false,
  clusters: false,
  log: false,
  selection: false,
};

/** @type {(() => void)[]} */
const views = [];
let frame = 0;

/** Calls `view` after changes, at most once per frame. @param {() => void} view */
export function onChange(view) {
  views.push(view);
}

export function redraw() {
  // A hidden tab gets no frames; then only the data goes on.
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const { selected } = store;
    for (const view of views) view();
    changed.all =
      changed.alarms =
      changed.models =
      changed.clusters =
      changed.log =
      changed.selection =
        false;
    changed.vehicles.clear();
    changed.newAlarms.clear();
    // A view has chosen a car: those before it have to show that, too.
    if (store.selected === selected) return;
    changed.selection = true;
    redraw();
  });
}

/** @param {string} vehicle */
export function select(vehicle) {
  if (store.selected === vehicle) return;
  store.selected = vehicle;
  changed.selection = true;
  history.replaceState(null, '', `#car=${encodeURIComponent(vehicle)}`);
  redraw();
}

/** Opens the stream of events, and again when it breaks. */
export function connect() {
  const source = new EventSource('./events');
  source.addEventListener('snapshot', (event) => take(JSON.parse(event.data), true));
  source.addEventListener('delta', (event) => take(JSON.parse(event.data), false));
  source.addEventListener('error', () => {
    store.connection = store.summary === null ? 'connecting' : 'lost';
    redraw();
    // The browser tries again by itself, except after an answer that is no stream.
    if (source.readyState !== 2) return;
    setTimeout(connect, RETRY_MS);
  });
}

/** @param {any} message @param {boolean} complete */
function take(message, complete) {
  store.connection = 'live';
  store.heardAt = Date.now();
  store.summary = message.summary;
  if (complete) {
    store.vehicles.clear();
    store.alarms.clear();
    store.samples = [];
    store.title = message.title;
    store.registryUrl = message.registryUrl;
    changed.all = true;
  }
  for (const vehicle of message.vehicles ?? []) {
    store.vehicles.set(vehicle.id, vehicle);
    changed.vehicles.add(vehicle.id);
  }
  for (const alarm of message.alarms ?? []) {
    if (!complete && !store.alarms.has(alarm.key)) changed.newAlarms.add(alarm.key);
    store.alarms.set(alarm.key, alarm);
    changed.alarms = true;
  }
  while (store.alarms.size > ALARMS_MAX) store.alarms.delete(store.alarms.keys().next().value);
  if (message.models !== undefined) {
    store.models = message.models;
    store.trainings = message.trainings;
    store.signalSets = message.signalSets;
    changed.models = true;
  }
  if (message.clusters !== undefined) {
    store.clusters = message.clusters;
    changed.clusters = true;
  }
  if (message.log !== undefined) {
    store.log = message.log;
    store.samples.push(...message.samples);
    store.samples.splice(0, store.samples.length - SAMPLES_MAX);
    changed.log = true;
  }
  redraw();
}
