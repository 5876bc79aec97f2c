import { CardanError } from '../errors.ts';

/**
 * Reads the fields of a JSON object of unknown origin. Whatever is missing, unknown or of the wrong kind is a
 * MODEL_INVALID that names the place, as in `manifest.features.inputs[3].scale`.
 */
export class JsonFields {
  private readonly fields: Record<string, unknown>;
  private readonly path: string;
  private readonly read = new Set<string>();

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalid(`${path} is not an object`);
    this.fields = value as Record<string, unknown>;
    this.path = path;
  }

  /** The value of a field that must be there. */
  value(name: string): unknown {
    this.read.add(name);
    if (!Object.hasOwn(this.fields, name)) throw invalid(`${this.at(name)} is missing`);
    return this.fields[name];
  }

  has(name: string): boolean {
    return Object.hasOwn(this.fields, name);
  }

  at(name: string): string {
    return `${this.path}.${name}`;
  }

  object(name: string): JsonFields {
    return new JsonFields(this.value(name), this.at(name));
  }

  string(name: string, pattern?: RegExp): string {
    const value = this.value(name);
    if (typeof value !== 'string') throw invalid(`${this.at(name)} is not a string`);
    if (pattern !== undefined && !pattern.test(value))
      throw invalid(
        `${this.at(name)} is ${JSON.stringify(value.slice(0, 80))}; it must match ${pattern.source}`,
      );
    return value;
  }

  oneOf<const T extends string | number>(name: string, choices: readonly T[]): T {
    const value = this.value(name);
    const choice = choices.find((known) => known === value);
    if (choice === undefined)
      throw invalid(`${this.at(name)} is ${JSON.stringify(value)}; known are: ${choices.join(', ')}`);
    return choice;
  }

  /** A finite number from `min` to `max`. */
  number(name: string, min = -Number.MAX_VALUE, max = Number.MAX_VALUE): number {
    return numberAt(this.value(name), this.at(name), min, max);
  }

  integer(name: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.number(name, min, max);
    if (!Number.isInteger(value)) throw invalid(`${this.at(name)} is ${value}, which is not a whole number`);
    return value;
  }

  /** A finite number over 0. */
  positive(name: string): number {
    return this.number(name, Number.MIN_VALUE);
  }

  /** RFC 3339. */
  time(name: string): string {
    const value = this.string(name, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/);
    if (Number.isNaN(Date.parse(value))) throw invalid(`${this.at(name)} is ${value}, which is no time`);
    return value;
  }

  list<T>(name: string, min: number, max: number, item: (value: unknown, path: string) => T): T[] {
    const value = this.value(name);
    if (!Array.isArray(value)) throw invalid(`${this.at(name)} is not a list`);
    if (value.length < min || value.length > max)
      throw invalid(
        `${this.at(name)} has ${value.length} entries; ${min === max ? min : `${min} to ${max}`} are expected`,
      );
    return value.map((entry, i) => item(entry, `${this.at(name)}[${i}]`));
  }

  numbers(name: string, length: number, min?: number): number[] {
    return this.list(name, length, length, (value, path) => numberAt(value, path, min));
  }

  /** An object used as a map; its keys come out sorted. */
  record<T>(name: string, entry: (value: unknown, path: string) => T): Record<string, T> {
    const { fields } = this.object(name);
    return Object.fromEntries(
      Object.keys(fields)
        .sort()
        .map((key) => [key, entry(fields[key], `${this.at(name)}.${key}`)]),
    );
  }

  /** Call after the last field: a field that nobody read may change the meaning of the others. */
  end(): void {
    const unknown = Object.keys(this.fields).filter((name) => !this.read.has(name));
    if (unknown.length > 0)
      throw invalid(
        `${this.at(unknown[0]!)} is not known here; a newer version of Cardan may have written it`,
      );
  }
}

export function numberAt(
  value: unknown,
  path: string,
  min = -Number.MAX_VALUE,
  max = Number.MAX_VALUE,
): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw invalid(`${path} is not a finite number`);
  if (value < min || value > max)
    throw invalid(
      `${path} is ${value}; it must be ${max === Number.MAX_VALUE ? `at least ${min}` : `${min} to ${max}`}`,
    );
  return value;
}

export function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('MODEL_INVALID', `Not a usable model: ${why}.`, { cause });
}
