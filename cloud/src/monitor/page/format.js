const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** @param {number | null | undefined} value */
export function count(value) {
  return value === null || value === undefined ? '–' : whole.format(value);
}

/** 1234567 → 1.2M. @param {number} value */
export function compact(value) {
  return value < 10_000 ? whole.format(value) : short.format(value);
}

/** Rates: one digit after the point while they are small. @param {number} value */
export function rate(value) {
  return value < 10 ? String(Math.round(value * 10) / 10) : compact(value);
}

/** A measured value with as many digits as help. @param {number | null | undefined} value */
export function measure(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size >= 10_000) return short.format(value);
  if (size >= 1000) return whole.format(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 1 || size === 0) return value.toFixed(2);
  return size < 0.001 ? value.toExponential(1) : value.toPrecision(2);
}

/** Units as DBC files write them, as people write them. @param {string} unit */
export function unitText(unit) {
  return unit
    .replace(/^(deg|°) ?C$/i, '°C')
    .replace(/^deg$/i, '°')
    .replace(/\^2/g, '²')
    .replace(/\^3/g, '³');
}

/** @param {number | null | undefined} part of 1 */
export function percent(part) {
  return part === null || part === undefined ? '–' : `${Math.round(part * 100)} %`;
}

/** Score over threshold. @param {number | null} ratio */
export function times(ratio) {
  if (ratio === null) return '–';
  return `${ratio >= 100 ? whole.format(ratio) : ratio.toFixed(ratio >= 10 ? 1 : 2)}×`;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const hours = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const full = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** @param {number | null | undefined} time milliseconds */
export function clockTime(time) {
  return time === null || time === undefined ? '–' : clock.format(time);
}

/** @param {number} time */
export function hourTime(time) {
  return hours.format(time);
}

/** @param {number} time */
export function shortDate(time) {
  return day.format(time);
}

/** @param {number | string} time */
export function fullTime(time) {
  return full.format(new Date(time));
}

/** @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.round(minutes / 1440)} days`;
}
