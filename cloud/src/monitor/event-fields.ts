import { CardanError, type ModelRef } from '@cardan/shared';

/** Reads the data of events, which cars wrote. What is missing or of the wrong kind is an EVENT_MALFORMED. */
export class EventFields {
  private readonly fields: Record<string, unknown>;

  constructor(value: unknown) {
    if (typeof value !== 'object' || value === null) throw malformed('its data is not an object');
    this.fields = value as Record<string, unknown>;
  }

  text(name: string): string {
    const value = this.fields[name];
    if (typeof value !== 'string') throw malformed(`"${name}" is not a string`);
    return value.slice(0, TEXT_MAX);
  }

  number(name: string): number {
    const value = this.fields[name];
    if (typeof value !== 'number' || !Number.isFinite(value)) throw malformed(`"${name}" is not a number`);
    return value;
  }

  flag(name: string): boolean {
    const value = this.fields[name];
    if (typeof value !== 'boolean') throw malformed(`"${name}" is not true or false`);
    return value;
  }

  /** Any value, for a parser of its own. */
  value(name: string): unknown {
    if (this.isNull(name)) throw malformed(`it has no "${name}"`);
    return this.fields[name];
  }

  object(name: string): EventFields {
    return new EventFields(this.fields[name]);
  }

  isNull(name: string): boolean {
    return this.fields[name] === null || this.fields[name] === undefined;
  }

  /** At most the first `max` entries. */
  list<T>(name: string, max: number, entry: (fields: EventFields) => T): T[] {
    const value = this.fields[name];
    if (!Array.isArray(value)) throw malformed(`"${name}" is not a list`);
    return value.slice(0, max).map((item) => entry(new EventFields(item)));
  }

  /** At most the first `max` numbers. */
  numbers(name: string, max: number): number[] {
    const value = this.fields[name];
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'number'))
      throw malformed(`"${name}" is not a list of numbers`);
    return value.slice(0, max);
  }

  /** A model, or null. */
  model(name: string): ModelRef | null {
    if (this.isNull(name)) return null;
    const fields = this.object(name);
    return { name: fields.text('name'), version: fields.text('version') };
  }
}

/** Far above any name or message; a bound for what is kept in memory and sent to pages. */
const TEXT_MAX = 500;

function malformed(why: string): CardanError {
  return new CardanError('EVENT_MALFORMED', `An event in the log cannot be shown: ${why}.`);
}
