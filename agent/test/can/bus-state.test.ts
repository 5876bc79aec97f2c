import { describe, expect, it } from 'vitest';
import { stateAfter } from '../../src/can/bus-state.ts';

describe('the state of a controller after an error frame', () => {
  it.each([
    ['receiving, warning', 'open', 0x004, 0x04, 'error-warning'],
    ['sending, warning', 'open', 0x004, 0x08, 'error-warning'],
    ['receiving, passive', 'error-warning', 0x004, 0x10, 'error-passive'],
    ['sending, passive, receiving, warning', 'open', 0x004, 0x24, 'error-passive'],
    ['only warning again', 'error-passive', 0x004, 0x08, 'error-warning'],
    ['active again', 'error-passive', 0x004, 0x40, 'open'],
    ['an overflow says nothing of it', 'error-passive', 0x004, 0x01, 'error-passive'],
    ['bus-off, whatever else', 'error-passive', 0x044, 0x20, 'bus-off'],
    ['restarted', 'bus-off', 0x100, 0, 'open'],
    ['a single bus error', 'error-warning', 0x088, 0, 'error-warning'],
  ] as const)('%s', (_, before, classes, controller, after) => {
    expect(stateAfter(before, classes, Uint8Array.of(0, controller, 0, 0, 0, 0, 0, 0))).toBe(after);
  });

  it('is the same when the frame has no details', () => {
    expect(stateAfter('error-warning', 0x004, new Uint8Array())).toBe('error-warning');
  });
});
