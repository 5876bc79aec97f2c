/**
 * Short readable labels for signal names, unique within their set. VSS paths are long, and what tells two of
 * them apart often stands in the middle: `Vehicle.Chassis.Axle.Row1.Wheel.Left.Tire.Pressure` becomes
 * “Tire pressure · row 1 left” beside its three siblings, and “Tire pressure” alone.
 * @param {readonly string[]} names
 * @returns {string[]} one label per name, in the same order
 */
export function shortLabels(names) {
  const paths = names.map((name) => name.split('.').filter((part) => part !== ''));
  const bases = paths.map((path) => baseOf(path));
  /** @type {Map<string, number[]>} */
  const groups = new Map();
  bases.forEach((base, i) => groups.set(base, [...(groups.get(base) ?? []), i]));
  const labels = [...bases];
  for (const members of groups.values()) {
    if (members.length < 2) continue;
    // Parts that not all of the group have are what tells its members apart.
    const inAll = (part) => members.every((member) => paths[member].includes(part));
    for (const member of members) {
      const own = paths[member].filter((part) => !inAll(part)).map((part) => words(part).toLowerCase());
      if (own.length > 0) labels[member] = `${bases[member]} · ${own.join(' ')}`;
    }
  }
  // Whatever is still double keeps its full name.
  return labels.map((label, i) => (labels.indexOf(label) === labels.lastIndexOf(label) ? label : names[i]));
}

/** @type {Map<string, Map<string, string>>} labels by name, by what makes them */
const known = new Map();

/**
 * The label of one signal beside the others of its set; without a set it is labelled on its own.
 * @param {string} name
 * @param {readonly string[]} [set] all names of the set
 */
export function labelOf(name, set = [name]) {
  const key = set.join('\n');
  let labels = known.get(key);
  if (labels === undefined) {
    const made = shortLabels(set);
    labels = new Map(set.map((other, i) => [other, made[i]]));
    if (known.size > 100) known.clear();
    known.set(key, labels);
  }
  return labels.get(name) ?? shortLabels([name])[0];
}

/** Last parts that say nothing without the one before. */
const GENERIC = new Set([
  'Speed',
  'Temperature',
  'Pressure',
  'Level',
  'Value',
  'Status',
  'IsActive',
  'Position',
]);

/** @param {string[]} path */
function baseOf(path) {
  // VSS says “current” of what is measured now: `CurrentGear` is the gear.
  const last = (path.at(-1) ?? '').replace(/^Current(?=[A-Z])/, '');
  const before = path.at(-2);
  if (path.length < 3 || before === undefined || !GENERIC.has(last)) return words(last);
  return sentence(`${words(before)} ${words(last)}`);
}

/** CamelCase and SNAKE_CASE to words: `EngineCoolant` → “Engine coolant”, `Row1` → “Row 1”, `MAF` stays. */
function words(part) {
  const spaced = part
    .replaceAll('_', ' ')
    .replace(/([a-z\d])([A-Z])/g, '$1 $2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1 $2')
    .replace(/([A-Za-z])(\d)/g, part.includes('_') ? '$1$2' : '$1 $2');
  return sentence(spaced);
}

/** Capital letter first, the others small, abbreviations as they are. */
function sentence(text) {
  return text
    .split(' ')
    .map((word, i) => {
      if (word.length > 1 && word === word.toUpperCase()) return word;
      return i === 0 ? word.charAt(0).toUpperCase() + word.slice(1) : word.toLowerCase();
    })
    .join(' ');
}
