import { CardanError } from '../errors.ts';

/** The one error of this folder. The message names the place, in the document or in the expression. */
export function campaignInvalid(why: string, cause?: unknown): CardanError {
  return new CardanError('CAMPAIGN_INVALID', `Not a usable campaign: ${why}.`, { cause });
}

/**
 * Reads the fields of a JSON object of unknown origin. Whatever is missing, unknown or of the wrong kind is a
 * CAMPAIGN_INVALID that names the place, as in `campaign.signals[3].as`. A field with a `fallback` may be left out.
 */
export class CampaignFields {
  private readonly fields: Record<string, unknown>;
  private readonly path: string;
  private readonly read = new Set<string>();

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw campaignInvalid(`${path} is not an object`);
    this.fields = value as Record<string, unknown>;
    this.path = path;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.fields, name);
  }

  at(name: string): string {
    return `${this.path}.${name}`;
  }

  /** The value of a field that must be there. */
  value(name: string): unknown {
    this.read.add(name);
    if (!this.has(name)) throw campaignInvalid(`${this.at(name)} is missing`);
    return this.fields[name];
  }

  object(name: string): CampaignFields {
    return new CampaignFields(this.value(name), this.at(name));
  }

  string(name: string, pattern: RegExp): string {
    return stringAt(this.value(name), this.at(name), pattern);
  }

  oneOf<const T extends string | number>(name: string, choices: readonly T[], fallback?: T): T {
    if (fallback !== undefined && !this.has(name)) return fallback;
    const value = this.value(name);
    const choice = choices.find((known) => known === value);
    if (choice === undefined)
      throw campaignInvalid(`${this.at(name)} is ${excerpt(value)}; known are: ${choices.join(', ')}`);
    return choice;
  }

  integer(name: string, min: number, max: number, fallback?: number): number {
    if (fallback !== undefined && !this.has(name)) return fallback;
    const value = this.value(name);
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
      throw campaignInvalid(
        `${this.at(name)} is ${excerpt(value)}; it must be a whole number from ${min} to ${max}`,
      );
    return value;
  }

  list<T>(name: string, min: number, max: number, item: (value: unknown, path: string) => T): T[] {
    const value = this.value(name);
    if (!Array.isArray(value)) throw campaignInvalid(`${this.at(name)} is not a list`);
    if (value.length < min || value.length > max)
      throw campaignInvalid(`${this.at(name)} has ${value.length} entries; ${min} to ${max} are expected`);
    return value.map((entry, i) => item(entry, `${this.at(name)}[${i}]`));
  }

  /** The names of all fields, for an object that is used as a map. */
  names(): string[] {
    return Object.keys(this.fields);
  }

  /** Call after the last field: a field that nobody read may change the meaning of the others. */
  end(): void {
    const unknown = this.names().find((name) => !this.read.has(name));
    if (unknown !== undefined)
      throw campaignInvalid(
        `${this.at(excerpt(unknown).slice(1, -1))} is not known here; a newer version of Cardan may have written it`,
      );
  }
}

export function stringAt(value: unknown, path: string, pattern: RegExp): string {
  if (typeof value !== 'string') throw campaignInvalid(`${path} is not a string`);
  if (!pattern.test(value))
    throw campaignInvalid(`${path} is ${excerpt(value)}; it must match ${pattern.source}`);
  return value;
}

/** A value as JSON, short enough for a message. */
function excerpt(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  return text.length <= 80 ? text : `${text.slice(0, 80)}…`;
}
