import { CardanError, type ModelRef, type VehicleChanged, type VehicleRegistered } from '@cardan/shared';

/** A vehicle, as far as the cloud knows it. */
export interface Vehicle {
  id: string;
  /** The columns that it sends: what it says itself, or else what was registered; null: neither. */
  signalSet: string | null;
  attributes: Record<string, string>;
  /** RFC 3339; null: nobody did, it is known by what it sends. */
  registeredAt: string | null;
  /** When it asked or said something last (RFC 3339); null: never. */
  lastSeen: string | null;
  /** Whether its broker has it; null: nobody has said. */
  online: boolean | null;
  reported: VehicleState | null;
}

/** What it has said of its models last. */
export interface VehicleState {
  observedGeneration: number;
  active: ModelRef | null;
  candidate: ModelRef | null;
  phase: string;
  error: { code: string; message: string } | null;
  agentVersion: string | null;
}

/** What is to be registered. */
export interface Registration extends VehicleRegistered {
  id: string;
}

/** As many as a campaign can name, twice. Every vehicle carries them, and filters look at all of them. */
export const ATTRIBUTES_MAX = 40;
const ATTRIBUTE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const ATTRIBUTE_CHARS_MAX = 256;
const VEHICLE_ID = /^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$/;
const SIGNAL_SET = /^[0-9a-f]{16}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Reads what somebody wants to register. Throws VEHICLE_INVALID, naming the place. */
export function readRegistration(value: unknown): Registration {
  const given = fields(value, 'A vehicle', ['id', 'attributes', 'signalSet', 'tokenSha256']);
  const { id, attributes = {}, signalSet, tokenSha256 } = given;
  if (typeof id !== 'string' || !VEHICLE_ID.test(id))
    throw invalid(
      '"id" must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -, the first a letter, a digit or _',
    );
  return {
    id,
    attributes: readAttributes(attributes, isText),
    ...(signalSet === undefined ? {} : { signalSet: text(signalSet, 'signalSet', SIGNAL_SET) }),
    ...(tokenSha256 === undefined ? {} : { tokenSha256: text(tokenSha256, 'tokenSha256', SHA256) }),
  };
}

/** Reads what somebody wants to change. Throws VEHICLE_INVALID, naming the place. */
export function readChange(value: unknown): VehicleChanged {
  const given = fields(value, 'A change', ['attributes', 'signalSet', 'tokenSha256']);
  const { attributes, signalSet, tokenSha256 } = given;
  const orNull = (given: unknown, name: string, pattern: RegExp) =>
    given === null ? null : text(given, name, pattern);
  return {
    ...(attributes === undefined
      ? {}
      : { attributes: readAttributes(attributes, (given) => given === null || isText(given)) }),
    ...(signalSet === undefined ? {} : { signalSet: orNull(signalSet, 'signalSet', SIGNAL_SET) }),
    ...(tokenSha256 === undefined ? {} : { tokenSha256: orNull(tokenSha256, 'tokenSha256', SHA256) }),
  };
}

/** The attributes after a change. Throws VEHICLE_INVALID when they are too many. */
export function changedAttributes(
  before: Readonly<Record<string, string>>,
  change: Readonly<Record<string, string | null>>,
): Record<string, string> {
  const after = new Map(Object.entries(before));
  for (const [name, value] of Object.entries(change))
    if (value === null) after.delete(name);
    else after.set(name, value);
  if (after.size > ATTRIBUTES_MAX) throw tooMany(after.size);
  return Object.fromEntries(after);
}

/** Whether two sets of attributes are the same, in any order. */
export function sameAttributes(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

function readAttributes<T extends string | null>(
  value: unknown,
  isValue: (value: unknown) => value is T,
): Record<string, T> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('"attributes" must be an object of texts');
  const entries = Object.entries(value as Record<string, unknown>);
  if (entries.length > ATTRIBUTES_MAX) throw tooMany(entries.length);
  for (const [name, given] of entries) {
    if (!ATTRIBUTE_NAME.test(name) || name === '__proto__')
      throw invalid(
        `the name of an attribute is 1 to 64 of A-Z a-z 0-9 . _ -, not ${JSON.stringify(name.slice(0, 80))}`,
      );
    if (!isValue(given) || (given !== null && given.length > ATTRIBUTE_CHARS_MAX))
      throw invalid(`"attributes.${name}" must be a text of at most ${ATTRIBUTE_CHARS_MAX} characters`);
  }
  return value as Record<string, T>;
}

function fields(value: unknown, what: string, known: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(`${what} is a JSON object`);
  for (const name of Object.keys(value))
    if (!known.includes(name))
      throw invalid(`it has no field ${JSON.stringify(name.slice(0, 80))}; there are ${known.join(', ')}`);
  return value as Record<string, unknown>;
}

function text(value: unknown, name: string, pattern: RegExp): string {
  if (typeof value === 'string' && pattern.test(value)) return value;
  throw invalid(`"${name}" must match ${pattern.source}`);
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function tooMany(count: number): CardanError {
  return invalid(`it has ${count} attributes; at most ${ATTRIBUTES_MAX} are allowed`);
}

function invalid(why: string): CardanError {
  return new CardanError('VEHICLE_INVALID', `Not a vehicle that can be registered: ${why}.`);
}
