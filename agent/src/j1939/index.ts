export { DM1_PGN, formatDm1, parseDm1, type Dm1, type J1939TroubleCode, type LampState } from './dm1.ts';
export { formatJ1939Id, GLOBAL, isPdu1, parseJ1939Id, pgnOf, type J1939Id } from './j1939-id.ts';
export { J1939Matcher } from './j1939-matcher.ts';
export {
  J1939Transport,
  type J1939Message,
  type J1939TransportOptions,
  type LostMessage,
} from './transport.ts';
