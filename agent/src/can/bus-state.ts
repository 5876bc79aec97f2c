import type { BusState } from './can-frame.ts';

/*
 * An error frame of Linux (linux/can/error.h): the id says which classes of trouble, data[1] what the controller says.
 *
 *   id       0x004 controller   0x040 bus-off   0x100 restarted
 *   data[1]  0x04 receive, 0x08 send: error-warning   0x10 receive, 0x20 send: error-passive   0x40 error-active again
 */
const CONTROLLER = 0x004;
const BUS_OFF = 0x040;
const RESTARTED = 0x100;
const WARNING = 0x0c;
const PASSIVE = 0x30;
const ACTIVE = 0x40;

/** The state of a controller after an error frame: the worst that the frame names, or the same if it names none. */
export function stateAfter(before: BusState, classes: number, details: Uint8Array): BusState {
  if (classes & BUS_OFF) return 'bus-off';
  if (classes & CONTROLLER) {
    const controller = details[1] ?? 0;
    if (controller & PASSIVE) return 'error-passive';
    if (controller & WARNING) return 'error-warning';
    if (controller & ACTIVE) return 'open';
  }
  return classes & RESTARTED ? 'open' : before;
}
