import uPlot from 'uplot';
import { clockTime, hourTime, shortDate } from './format.js';

/** @param {string} name of a custom property, for example `--accent` */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The same colour, more transparent. @param {string} hex `#rrggbb` @param {number} alpha 0 to 1 */
export function faded(hex, alpha) {
  const part = Math.round(alpha * 255)
    .toString(16)
    .padStart(2, '0');
  return `${hex}${part}`;
}

/**
 * A chart that fits its container, follows the theme, and is made again when its options change.
 * @param {HTMLElement} container
 * @param {() => any} options of uPlot, without width; called again after a change of the theme
 */
export function chart(container, options) {
  let plot = null;
  let data = null;
  let width = 0;

  function make() {
    plot?.destroy();
    plot = null;
    if (width < 40 || data === null) return;
    plot = new uPlot({ ms: 1, ...options(), width }, data, container);
  }

  const observer = new ResizeObserver(([entry]) => {
    const next = Math.floor(entry.contentRect.width);
    if (next === width) return;
    width = next;
    if (plot === null) make();
    else plot.setSize({ width, height: plot.height });
  });
  observer.observe(container);
  document.addEventListener('themechange', make);

  return {
    /** @param {any[]} next */
    setData(next) {
      data = next;
      if (plot === null) make();
      else plot.setData(next);
    },
    /** Makes the chart anew with the options as they are now. */
    rebuild: make,
    redraw() {
      plot?.redraw(false);
    },
    destroy() {
      observer.disconnect();
      document.removeEventListener('themechange', make);
      plot?.destroy();
      plot = null;
      data = null;
    },
  };
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((step) => step * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((step) => step * MINUTE),
  ...[1, 2, 4, 6, 12, 24, 48, 168, 720].map((step) => step * HOUR),
];

const FONT = '11px system-ui, sans-serif';

/** Axis of times, in the reader's time zone and 24 hours. */
export function timeAxis() {
  return {
    ...axisStyle(),
    space: 80,
    incrs: TIME_STEPS,
    size: 30,
    values: (_plot, splits, _axis, _space, step) =>
      splits.map((time) => {
        if (step >= 24 * HOUR) return shortDate(time);
        return step < MINUTE ? clockTime(time) : hourTime(time);
      }),
  };
}

/** @param {(value: number) => string} format @param {object} [more] */
export function valueAxis(format, more = {}) {
  return {
    ...axisStyle(),
    size: 52,
    space: 34,
    values: (_plot, splits) => splits.map((value) => (value === null ? '' : format(value))),
    ...more,
  };
}

function axisStyle() {
  return {
    stroke: color('--muted'),
    font: FONT,
    grid: { stroke: color('--grid'), width: 1 },
    ticks: { show: false },
    gap: 6,
  };
}

/** Cursor with a line across, no zooming by drag: the data moves on by itself. @param {object} [more] */
export function cursor(more = {}) {
  return { drag: { x: false, y: false }, points: { size: 6 }, y: false, ...more };
}

/** @param {string} label @param {string} stroke @param {object} [more] */
export function line(label, stroke, more = {}) {
  return { label, stroke, width: 1.5, points: { show: false }, spanGaps: false, ...more };
}
