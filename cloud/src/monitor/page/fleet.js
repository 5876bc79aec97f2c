import { byId, emptyState, h, setText, svg } from './dom.js';
import { fullTime, times } from './format.js';
import { changed, onChange, redraw, select, store } from './store.js';

/** Above these numbers of cars the tiles get smaller. */
const COMPACT_FROM = 61;
const DOTS_FROM = 241;
/** Height of the small curve, in ratios of score to threshold. */
const SPARK_TOP = 2;

const STATES = { alarm: 'Alarm', healthy: 'Healthy', learning: 'Learning', offline: 'Offline' };

/** @type {Map<string, any>} tiles by car */
const tiles = new Map();
let filter = 'all';
let search = '';
/** @type {'full' | 'compact' | 'dots'} */
let size = 'full';

/** One tile per car. Arrow keys move among them, Enter selects. */
export function startFleet() {
  const container = byId('tiles');
  container.addEventListener('click', (event) => {
    const tile = event.target.closest('.tile');
    if (tile === null) return;
    byId('follow').checked = false;
    select(tile.dataset.id);
  });
  container.addEventListener('keydown', moveFocus);
  byId('search').addEventListener('input', (event) => {
    search = event.target.value.trim().toLowerCase();
    changed.all = true;
    redraw();
  });
  startFilters();
  onChange(() => {
    if (store.summary === null) return;
    if (changed.all) removeForgotten();
    const added = updateTiles();
    if (added || changed.all) arrange(container);
    if (changed.selection || added || changed.all) showSelection();
    showFilters();
  });
}

function updateTiles() {
  let added = false;
  for (const id of changed.vehicles) {
    let tile = tiles.get(id);
    if (tile === undefined) {
      tile = makeTile(id);
      tiles.set(id, tile);
      added = true;
    }
    fillTile(tile, store.vehicles.get(id));
  }
  return added;
}

function removeForgotten() {
  for (const [id, tile] of tiles) {
    if (store.vehicles.has(id)) continue;
    tile.element.remove();
    tiles.delete(id);
  }
}

function makeTile(id) {
  const curve = svg('path', { class: 'curve' });
  const area = svg('path', { class: 'area' });
  const spark = svg(
    'svg',
    { class: 'spark', viewBox: '0 0 100 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    area,
    curve,
    svg('path', { class: 'limit', d: 'M0 15H100' }),
  );
  const version = h('span', { class: 'version' });
  const state = h('span', { class: 'state' });
  const ratio = h('span', { class: 'ratio' });
  const bar = h('i', {});
  const element = h(
    'button',
    { class: 'tile', type: 'button', 'data-id': id, tabIndex: -1 },
    h('span', { class: 'tile-head' }, h('b', {}, id), version),
    spark,
    h('span', { class: 'tile-bar' }, bar),
    h('span', { class: 'tile-foot' }, state, ratio),
  );
  return { element, curve, area, version, state, ratio, bar, drawn: '' };
}

function fillTile(tile, vehicle) {
  const { element } = tile;
  if (element.dataset.state !== vehicle.state) element.dataset.state = vehicle.state;
  element.dataset.online = String(vehicle.online);
  setText(tile.state, vehicle.phase === 'updating' ? 'Updating' : STATES[vehicle.state]);
  setText(tile.version, vehicle.model === null ? '' : `v${vehicle.model.version}`);
  setText(tile.ratio, vehicle.ratio === null ? '' : times(vehicle.ratio));
  if (size === 'compact') tile.bar.style.width = `${Math.min(100, 50 * (vehicle.ratio ?? 0))}%`;
  if (size === 'dots') element.style.setProperty('--level', level(vehicle.ratio));
  const [curve, area] = sparkPaths(vehicle.spark);
  if (curve !== tile.drawn) {
    tile.curve.setAttribute('d', curve);
    tile.area.setAttribute('d', area);
    tile.drawn = curve;
  }
  element.title =
    `${vehicle.id}: ${STATES[vehicle.state].toLowerCase()}` +
    (vehicle.ratio === null ? '' : `, score ${times(vehicle.ratio)} the threshold`) +
    (vehicle.model === null ? ', no model' : `, model v${vehicle.model.version}`) +
    (vehicle.time === null ? '' : `, last row ${fullTime(vehicle.time)}`);
}

/** @param {(number | null)[]} ratios @returns {[curve: string, area: string]} */
function sparkPaths(ratios) {
  let curve = '';
  let area = '';
  let start = null;
  const step = 100 / 23;
  const close = (x) => {
    if (start !== null) area += `L${x.toFixed(1)} 30L${start.toFixed(1)} 30Z`;
    start = null;
  };
  ratios.forEach((ratio, i) => {
    // The newest point stands on the right edge.
    const x = 100 - (ratios.length - 1 - i) * step;
    if (ratio === null) return close(x - step);
    const y = 29 - (28 * Math.min(ratio, SPARK_TOP)) / SPARK_TOP;
    const point = `${start === null ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`;
    start ??= x;
    curve += point;
    area += point;
  });
  close(100);
  return [curve, area];
}

/** How bright the small square of a car is in a large fleet: the nearer to the threshold, the brighter. */
function level(ratio) {
  // In steps, so that most updates change nothing that has to be painted.
  return `${30 + 10 * Math.round(6 * Math.min(1, ratio ?? 0.3))}%`;
}

/** Puts the tiles that are asked for in the order of their names. */
function arrange(container) {
  const shown = [...tiles.keys()].filter(isShown).sort(byName);
  const before = size;
  size = tiles.size >= DOTS_FROM ? 'dots' : tiles.size >= COMPACT_FROM ? 'compact' : 'full';
  container.dataset.size = size;
  // Each size shows something else of a car.
  if (size !== before) for (const [id, tile] of tiles) fillTile(tile, store.vehicles.get(id));
  const focused = document.activeElement;
  if (shown.length > 0) container.replaceChildren(...shown.map((id) => tiles.get(id).element));
  else if (tiles.size > 0)
    container.replaceChildren(emptyState('No such car', 'No car has this name and state.'));
  else
    container.replaceChildren(
      emptyState(
        'Waiting for the first car',
        'A car appears here with its first row, and learns from then on.',
      ),
    );
  // A tile that is put in again has lost the focus.
  if (container.contains(focused)) focused.focus({ preventScroll: true });
  if (!shown.some((id) => tiles.get(id).element.tabIndex === 0) && shown.length > 0)
    tiles.get(shown[0]).element.tabIndex = 0;
}

const names = new Intl.Collator('en', { numeric: true });
function byName(a, b) {
  return names.compare(a, b);
}

function isShown(id) {
  const vehicle = store.vehicles.get(id);
  return (
    vehicle !== undefined &&
    (filter === 'all' || vehicle.state === filter) &&
    (search === '' || id.toLowerCase().includes(search))
  );
}

function showSelection() {
  for (const [id, { element }] of tiles) {
    const selected = id === store.selected;
    element.setAttribute('aria-pressed', String(selected));
    if (selected) element.tabIndex = 0;
  }
}

/** One stop of the tab key for all tiles; arrows, Home and End move within. */
function moveFocus(event) {
  const shown = [...byId('tiles').querySelectorAll('.tile')];
  const at = shown.indexOf(document.activeElement);
  if (at < 0) return;
  const top = shown[at].offsetTop;
  const perRow = Math.max(1, shown.filter((tile) => tile.offsetTop === shown[0].offsetTop).length);
  const to = {
    ArrowRight: at + 1,
    ArrowLeft: at - 1,
    ArrowDown: at + perRow,
    ArrowUp: at - perRow,
    Home: 0,
    End: shown.length - 1,
  }[event.key];
  if (to === undefined || shown[to] === undefined) return;
  event.preventDefault();
  shown[at].tabIndex = -1;
  shown[to].tabIndex = 0;
  shown[to].focus({ preventScroll: shown[to].offsetTop === top });
}

function startFilters() {
  const choices = { all: 'All', alarm: 'Alarm', learning: 'Learning', offline: 'Offline' };
  for (const [state, label] of Object.entries(choices)) {
    const button = h(
      'button',
      { type: 'button', class: 'chip', 'data-filter': state, 'aria-pressed': state === 'all' },
      label,
      ' ',
      h('b', {}, ''),
    );
    button.addEventListener('click', () => {
      filter = state;
      changed.all = true;
      redraw();
    });
    byId('filters').append(button);
  }
}

let shownBefore = '';
function showFilters() {
  const counts = { all: store.vehicles.size, alarm: 0, learning: 0, offline: 0, healthy: 0 };
  for (const { state } of store.vehicles.values()) counts[state]++;
  for (const button of byId('filters').children) {
    setText(button.lastElementChild, String(counts[button.dataset.filter]));
    button.setAttribute('aria-pressed', String(button.dataset.filter === filter));
  }
  if (filter === 'all') return;
  // Cars come and go in a filtered view.
  const shown = [...tiles.keys()].filter(isShown).join(' ');
  if (shown !== shownBefore) arrange(byId('tiles'));
  shownBefore = shown;
}
