import { messageOf } from '../errors.ts';
import { SIGNALS_MAX } from '../signal-set.ts';
import { CampaignFields, campaignInvalid, stringAt } from './campaign-fields.ts';
import { parseExpression, type Expression } from './expression.ts';

/**
 * A campaign: what a car collects, when, and how what it collects is treated on the way. Written as JSON;
 * `shared/schema/campaign.schema.json` says the same in JSON Schema 2020-12, for editors and other languages.
 */
export interface Campaign {
  schema: 1;
  /** Rows, frames and triggers name it. */
  id: string;
  /** For people. */
  name: string;
  version: string;
  vehicles: VehicleSelector;
  /** Milliseconds since 1970; nothing is collected before. */
  start: number;
  /** Milliseconds since 1970; nothing is collected from then on. Infinity: for ever. */
  expiry: number;
  /** 0 to 9; when the car's disk is full the lowest goes first. */
  priority: number;
  /** What a batch should be packed with. A hint: the agent sends it plain where packing does not pay. */
  compression: 'none' | 'gzip' | 'zstd';
  /** `disk`: kept until it is acknowledged, also over a restart. `memory`: gone with the process. */
  persistence: 'disk' | 'memory';
  /** Columns of a row, in order. */
  signals: CampaignSignal[];
  collection: Collection;
  /** Frames as they were on the bus; without it none. */
  rawFrames?: RawFrames;
}

export interface CampaignSignal {
  /** As the car knows it: a VSS path, a DBC signal, or `Message.Signal`. */
  name: string;
  /** The column's name in the rows. */
  as: string;
}

export type Collection = TimeCollection | ConditionCollection;

/** A row every `periodMs`, with the last value of each signal. */
export interface TimeCollection {
  type: 'time';
  periodMs: number;
}

/** Rows around the moments at which a condition holds, one for each frame that carries one of the signals. */
export interface ConditionCollection {
  type: 'condition';
  when: Expression;
  /** `always`: every sample at which the condition holds triggers. `rising-edge`: only the first of a run. */
  trigger: 'always' | 'rising-edge';
  /** Least time from one trigger to the next. */
  minIntervalMs: number;
  /** Rows from this long before the trigger … */
  beforeMs: number;
  /** … to this long after it. */
  afterMs: number;
}

export interface RawFrames {
  ids: RawFrameId[];
  /** The frames over it are counted, not taken. */
  maxPerSecond: number;
}

export interface RawFrameId {
  id: number;
  extended: boolean;
}

export interface VehicleSelector {
  /** Globs over the vehicle's id (`*`, `?`), one of which must fit; undefined: every vehicle. */
  ids?: string[];
  /** All of these must be equal to the vehicle's own. */
  attributes: Record<string, string>;
}

/** Longest document, characters: a thousand signals with long names take half of it. */
export const CAMPAIGN_LENGTH_MAX = 256 * 1024;
/** Most raw-frame ids, and most vehicle patterns: a list that somebody wrote, not a fleet's database. */
const LIST_MAX = 1000;
const ATTRIBUTES_MAX = 20;
const DAY_MS = 86_400_000;
/** An hour before or after a trigger, at full rate; the ring's bytes bound it further. */
const AROUND_MS_MAX = 3_600_000;
/** As many frames as a classic CAN bus of 1 Mbit/s carries, rounded up. */
const RAW_PER_SECOND_MAX = 20_000;

// An id becomes part of paths, URLs and file names: no slash, no leading dot.
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/u;
const TITLE = /^[^\p{Cc}]{1,200}$/u;
const SIGNAL = /^[^\p{Cc}"']{1,200}$/u;
const GLOB = /^[A-Za-z0-9._:*?-]{1,64}$/u;
const ATTRIBUTE = /^[^\p{Cc}]{0,200}$/u;
const CAN_ID = /^([0-7][0-9A-Fa-f]{2}|[01][0-9A-Fa-f]{7})$/u;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/u;

/**
 * Parses a campaign document of unknown origin.
 *
 * @throws CardanError CAMPAIGN_INVALID, naming the field, or the character within the expression
 */
export function parseCampaign(text: string | Uint8Array): Campaign {
  if (text.length > CAMPAIGN_LENGTH_MAX)
    throw campaignInvalid(`it has ${text.length} characters; at most ${CAMPAIGN_LENGTH_MAX} are allowed`);
  let value: unknown;
  try {
    value = JSON.parse(
      typeof text === 'string' ? text : new TextDecoder('utf-8', { fatal: true }).decode(text),
    );
  } catch (cause) {
    throw campaignInvalid(`it is not JSON (${messageOf(cause)})`, cause);
  }
  return readCampaign(value);
}

/** The same from a value that JSON.parse has given. */
export function readCampaign(value: unknown): Campaign {
  const fields = new CampaignFields(value, 'campaign');
  const start = fields.has('start') ? readTime(fields, 'start') : Number.NEGATIVE_INFINITY;
  const campaign: Campaign = {
    schema: fields.oneOf('schema', [1]),
    id: fields.string('id', ID),
    name: fields.string('name', TITLE),
    version: fields.string('version', ID),
    vehicles: readVehicles(fields),
    start,
    expiry: fields.has('expiry') ? readTime(fields, 'expiry') : Number.POSITIVE_INFINITY,
    priority: fields.integer('priority', 0, 9, 0),
    compression: fields.oneOf('compression', ['none', 'gzip', 'zstd'], 'none'),
    persistence: fields.oneOf('persistence', ['disk', 'memory'], 'disk'),
    signals: fields.list('signals', 1, SIGNALS_MAX, readSignal),
    collection: readCollection(fields.object('collection')),
    ...(fields.has('rawFrames') ? { rawFrames: readRawFrames(fields.object('rawFrames')) } : {}),
  };
  fields.end();
  if (campaign.expiry <= start) throw campaignInvalid('campaign.expiry is not after campaign.start');
  const names = new Set<string>();
  campaign.signals.forEach(({ as }, i) => {
    if (names.has(as)) throw campaignInvalid(`campaign.signals[${i}] is a second column "${as}"`);
    names.add(as);
  });
  return campaign;
}

function readTime(fields: CampaignFields, name: string): number {
  const text = fields.string(name, TIME);
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw campaignInvalid(`${fields.at(name)} is ${text}, which is no time`);
  return time;
}

function readVehicles(fields: CampaignFields): VehicleSelector {
  if (fields.value('vehicles') === 'all') return { attributes: {} };
  if (typeof fields.value('vehicles') === 'string')
    throw campaignInvalid('campaign.vehicles must be "all", or an object with "ids" or "attributes"');
  const vehicles = fields.object('vehicles');
  // Without either it would be everybody, which has to be said in so many words.
  if (!vehicles.has('ids') && !vehicles.has('attributes'))
    throw campaignInvalid(
      'campaign.vehicles has neither "ids" nor "attributes"; say "all" for every vehicle',
    );
  const selector: VehicleSelector = {
    ...(vehicles.has('ids')
      ? { ids: vehicles.list('ids', 1, LIST_MAX, (value, path) => stringAt(value, path, GLOB)) }
      : {}),
    attributes: vehicles.has('attributes') ? readAttributes(vehicles.object('attributes')) : {},
  };
  vehicles.end();
  return selector;
}

function readAttributes(fields: CampaignFields): Record<string, string> {
  const names = fields.names();
  if (names.length === 0 || names.length > ATTRIBUTES_MAX)
    throw campaignInvalid(
      `campaign.vehicles.attributes has ${names.length} entries; 1 to ${ATTRIBUTES_MAX} are expected`,
    );
  return Object.fromEntries(
    names.map((name) => {
      stringAt(name, 'a name in campaign.vehicles.attributes', ID);
      return [name, fields.string(name, ATTRIBUTE)];
    }),
  );
}

function readSignal(value: unknown, path: string): CampaignSignal {
  if (typeof value === 'string') {
    const name = stringAt(value, path, SIGNAL);
    return { name, as: name };
  }
  if (typeof value !== 'object') throw campaignInvalid(`${path} is neither a name nor an object`);
  const fields = new CampaignFields(value, path);
  const name = fields.string('name', SIGNAL);
  const signal = { name, as: fields.has('as') ? fields.string('as', SIGNAL) : name };
  fields.end();
  return signal;
}

function readCollection(fields: CampaignFields): Collection {
  const type = fields.oneOf('type', ['time', 'condition']);
  const collection: Collection =
    type === 'time'
      ? { type, periodMs: fields.integer('periodMs', 10, DAY_MS) }
      : {
          type,
          when: readCondition(fields),
          trigger: fields.oneOf('trigger', ['always', 'rising-edge'], 'rising-edge'),
          minIntervalMs: fields.integer('minIntervalMs', 0, DAY_MS, 0),
          beforeMs: fields.integer('beforeMs', 0, AROUND_MS_MAX, 0),
          afterMs: fields.integer('afterMs', 0, AROUND_MS_MAX, 0),
        };
  fields.end();
  return collection;
}

function readCondition(fields: CampaignFields): Expression {
  const value = fields.value('when');
  if (typeof value !== 'string') throw campaignInvalid(`${fields.at('when')} is not a string`);
  return parseExpression(value, fields.at('when'));
}

function readRawFrames(fields: CampaignFields): RawFrames {
  const frames: RawFrames = {
    ids: fields.list('ids', 1, LIST_MAX, (value, path) => {
      const digits = stringAt(value, path, CAN_ID);
      return { id: parseInt(digits, 16), extended: digits.length === 8 };
    }),
    maxPerSecond: fields.integer('maxPerSecond', 1, RAW_PER_SECOND_MAX),
  };
  fields.end();
  return frames;
}
