import { isIPv4, isIPv6 } from 'node:net';
import { CardanError } from '@cardan/shared';
import type { CanSource } from './can-frame.ts';
import { CandumpSource } from './candump.ts';
import type { KernelFilter } from './kernel-filters.ts';
import { SeveralSources } from './several.ts';
import { SERIAL_BAUDS, SLCAN_BITRATES, SlcanSource } from './slcan.ts';
import { SocketCanSource } from './socketcan.ts';
import { UdpMulticastSource, UDP_CAN_PORT } from './udp-multicast.ts';

/** What `--can` says. */
export type SourceAddress =
  | { kind: 'candump'; path: string }
  | { kind: 'udp'; group: string; interface?: string; port: number }
  | { kind: 'slcan'; device: string; bitrate: number; baud?: number }
  | { kind: 'socketcan'; interface: string };

export interface OpenSourceOptions {
  /** Pace of recordings; 0 for as fast as possible. */
  speed: number;
  /** For the kernel, from the DBC. */
  filters?: readonly KernelFilter[];
  /** Told of lines of a recording that are no frame. */
  onMalformed?: (path: string, line: number, message: string) => void;
  onProblem?: (error: CardanError) => void;
}

/**
 * Opens nothing yet; a source opens when its frames are read.
 *
 * @param texts one address per bus
 * @throws CardanError CAN_SOURCE_UNKNOWN
 */
export function openSource(texts: readonly string[], options: OpenSourceOptions): SeveralSources {
  return new SeveralSources(
    texts.map((text) => sourceOf(parseSource(text), options)),
    texts,
  );
}

/** @throws CardanError CAN_SOURCE_UNKNOWN */
export function parseSource(text: string): SourceAddress {
  const colon = text.indexOf(':');
  const kind = text.slice(0, Math.max(colon, 0));
  const rest = text.slice(colon + 1);
  if (rest === '') throw unknown(text, 'nothing stands behind the colon');
  switch (kind) {
    case 'candump':
      return { kind, path: rest };
    case 'udp':
      return parseUdp(text, rest);
    case 'slcan': {
      const [, device = rest, digits, serial] = /^(.+?)(?:@(\d+))?(?:,(\d+))?$/.exec(rest) ?? [];
      const bitrate = Number(digits ?? 500_000);
      if (!SLCAN_BITRATES.has(bitrate))
        throw unknown(text, `the bit rate must be one of ${[...SLCAN_BITRATES.keys()].join(', ')}`);
      if (serial === undefined) return { kind, device, bitrate };
      const baud = Number(serial);
      if (!SERIAL_BAUDS.has(baud))
        throw unknown(text, `the serial line's speed must be one of ${[...SERIAL_BAUDS].join(', ')}`);
      return { kind, device, bitrate, baud };
    }
    case 'socketcan':
      // Names of Linux: up to 15 characters. No comma: candump takes filters behind one.
      if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(rest))
        throw unknown(text, `"${rest}" names no interface`);
      return { kind, interface: rest };
    default:
      throw unknown(text, kind === '' ? 'the kind is missing' : `there is no kind "${kind}"`);
  }
}

/** `GROUP`, `GROUP%INTERFACE`, `GROUP:PORT`; with a port, an IPv6 address stands in brackets. */
function parseUdp(text: string, rest: string): SourceAddress {
  const whole = rest.startsWith('[')
    ? /^\[([^\]%]+)(?:%([^\]]+))?\](?::(\d{1,5}))?$/.exec(rest)
    : /^([\d.]+|[\da-fA-F:.]+)(?:%([^:]+))?(?::(\d{1,5}))?$/.exec(rest);
  let [, group = '', name, digits] = whole ?? [];
  if (!rest.startsWith('[') && isIPv6(rest.split('%')[0]!)) {
    [group = '', name] = rest.split('%');
    digits = undefined;
  }
  const first = isIPv4(group) ? Number(group.split('.')[0]) : 0;
  if (!(first >= 224 && first <= 239) && !(isIPv6(group) && /^ff/i.test(group)))
    throw unknown(text, 'it needs a multicast address, 224.0.0.0 to 239.255.255.255 or ff00::/8');
  const port = Number(digits ?? UDP_CAN_PORT);
  if (port < 1 || port > 65_535) throw unknown(text, `there is no port ${port}`);
  return { kind: 'udp', group, port, ...(name === undefined ? {} : { interface: name }) };
}

function sourceOf(address: SourceAddress, options: OpenSourceOptions): CanSource {
  const { speed, filters, onMalformed, onProblem } = options;
  switch (address.kind) {
    case 'candump':
      return new CandumpSource({
        path: address.path,
        speed: speed === 0 ? Number.POSITIVE_INFINITY : speed,
        onMalformed: (line, message) => onMalformed?.(address.path, line, message),
      });
    case 'udp':
      return new UdpMulticastSource({ ...address, onProblem });
    case 'slcan':
      return new SlcanSource({ ...address, onProblem });
    case 'socketcan':
      return new SocketCanSource({ interface: address.interface, filters, onProblem });
  }
}

function unknown(text: string, why: string): CardanError {
  return new CardanError(
    'CAN_SOURCE_UNKNOWN',
    `"${text}" is no CAN source: ${why}. Use candump:FILE (- for standard input), socketcan:can0, ` +
      'slcan:/dev/ttyACM0[@BITRATE][,BAUD] or udp:GROUP[%INTERFACE][:PORT].',
  );
}
