import { CardanError } from '@cardan/shared';
import type { CanFrame } from './can-frame.ts';

/*
 * One message of python-can's udp_multicast bus: a MessagePack map with text keys.
 *
 *   timestamp              float, seconds since 1970 by the sender's clock; often 0
 *   arbitration_id         unsigned integer
 *   is_extended_id         bool
 *   is_remote_frame        bool
 *   is_error_frame         bool
 *   channel                nil, text or integer
 *   dlc                    unsigned integer: bytes of data, not the length code
 *   data                   bin
 *   is_fd, bitrate_switch, error_state_indicator   bool
 *
 * The map is flat and has eleven entries, so that the few MessagePack types in it are read here; a library would be
 * more code in the car than this file.
 */
const ENTRIES_MAX = 32;

/** What a datagram holds. */
export type PythonCanMessage =
  | { kind: 'data'; frame: CanFrame }
  /** A request, or a controller's own troubles: neither carries signals. */
  | { kind: 'remote' | 'error' };

type Value = number | boolean | string | null | Uint8Array;

/**
 * @param time that the frame gets, in milliseconds since 1970; python-can, too, uses the time of arrival
 * @throws CardanError CAN_FRAME_INVALID
 */
export function decodePythonCan(datagram: Uint8Array, time: number): PythonCanMessage {
  const fields = readMap(datagram);
  const id = fields.get('arbitration_id');
  const extended = flag(fields, 'is_extended_id', true);
  const fd = flag(fields, 'is_fd', false);
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0)
    throw invalid('arbitration_id is no unsigned integer');
  if (flag(fields, 'is_error_frame', false)) return { kind: 'error' };
  if (id > (extended ? 0x1fff_ffff : 0x7ff))
    throw invalid(`the id 0x${id.toString(16)} has more than ${extended ? 29 : 11} bits`);
  if (flag(fields, 'is_remote_frame', false)) {
    if (fd) throw invalid('CAN FD has no remote frames');
    return { kind: 'remote' };
  }
  const data = fields.get('data') ?? new Uint8Array();
  if (!(data instanceof Uint8Array)) throw invalid('data is not binary');
  if (data.length > (fd ? 64 : 8)) throw invalid(`${data.length} bytes of data are too many`);
  const dlc = fields.get('dlc');
  if (dlc !== undefined && dlc !== null && dlc !== data.length)
    throw invalid(`dlc is not the length of the data, ${data.length}`);
  // A copy: the frame must not keep the whole datagram.
  return { kind: 'data', frame: { time, id, extended, fd, data: new Uint8Array(data) } };
}

/** A data frame as python-can sends it. */
export function encodePythonCan(frame: CanFrame): Buffer {
  const { id, extended, fd, data, time } = frame;
  const seconds = Buffer.alloc(9, 0xcb);
  seconds.writeDoubleBE(time / 1000, 1);
  return Buffer.concat([
    Buffer.of(0x80 | 11),
    key('timestamp'),
    seconds,
    key('arbitration_id'),
    unsigned(id),
    key('is_extended_id'),
    bool(extended),
    key('is_remote_frame'),
    bool(false),
    key('is_error_frame'),
    bool(false),
    key('channel'),
    Buffer.of(0xc0),
    key('dlc'),
    unsigned(data.length),
    key('data'),
    Buffer.of(0xc4, data.length),
    data,
    key('is_fd'),
    bool(fd),
    key('bitrate_switch'),
    bool(false),
    key('error_state_indicator'),
    bool(false),
  ]);
}

const key = (text: string): Buffer => Buffer.from([0xa0 | text.length, ...Buffer.from(text)]); // up to 31 bytes
const bool = (value: boolean): Buffer => Buffer.of(value ? 0xc3 : 0xc2);

function unsigned(value: number): Buffer {
  if (value < 0x80) return Buffer.of(value);
  const bytes = Buffer.alloc(5, 0xce);
  bytes.writeUInt32BE(value, 1);
  return bytes;
}

function flag(fields: Map<string, Value>, name: string, absent: boolean): boolean {
  const value = fields.get(name) ?? absent;
  if (typeof value !== 'boolean') throw invalid(`${name} is neither true nor false`);
  return value;
}

function readMap(datagram: Uint8Array): Map<string, Value> {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  let at = 0;
  const take = (bytes: number): number => {
    if (at + bytes > view.byteLength) throw invalid('the datagram is cut off');
    const start = at;
    at += bytes;
    return start;
  };
  const bytes = (length: number): Uint8Array => {
    const start = take(length);
    return datagram.subarray(start, start + length);
  };
  const text = (length: number): string => Buffer.from(bytes(length)).toString('utf8');

  const value = (): Value => {
    const type = view.getUint8(take(1));
    if (type < 0x80) return type;
    if (type >= 0xe0) return type - 0x100;
    if (type >= 0xa0 && type <= 0xbf) return text(type & 0x1f);
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return type === 0xc3;
      case 0xc4:
        return bytes(view.getUint8(take(1)));
      case 0xc5:
        return bytes(view.getUint16(take(2)));
      case 0xca:
        return view.getFloat32(take(4));
      case 0xcb:
        return view.getFloat64(take(8));
      case 0xcc:
        return view.getUint8(take(1));
      case 0xcd:
        return view.getUint16(take(2));
      case 0xce:
        return view.getUint32(take(4));
      case 0xcf:
        return Number(view.getBigUint64(take(8)));
      case 0xd0:
        return view.getInt8(take(1));
      case 0xd1:
        return view.getInt16(take(2));
      case 0xd2:
        return view.getInt32(take(4));
      case 0xd3:
        return Number(view.getBigInt64(take(8)));
      case 0xd9:
        return text(view.getUint8(take(1)));
      case 0xda:
        return text(view.getUint16(take(2)));
      default:
        throw invalid(`a MessagePack type 0x${type.toString(16)} that it never has`);
    }
  };

  const head = view.getUint8(take(1));
  let entries = head & 0x0f;
  if (head === 0xde) entries = view.getUint16(take(2));
  else if ((head & 0xf0) !== 0x80) throw invalid('it is no MessagePack map');
  if (entries > ENTRIES_MAX) throw invalid(`the map has ${entries} entries`);
  const fields = new Map<string, Value>();
  for (let i = 0; i < entries; i++) {
    const name = value();
    if (typeof name !== 'string') throw invalid('a key of the map is no text');
    fields.set(name, value());
  }
  if (at !== datagram.length) throw invalid('bytes follow the map');
  return fields;
}

function invalid(why: string): CardanError {
  return new CardanError('CAN_FRAME_INVALID', `Not a message of python-can: ${why}.`);
}
