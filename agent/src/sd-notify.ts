import { execFile } from 'node:child_process';
import { messageOf } from '@cardan/shared';

/*
 * What systemd wants to hear (sd_notify(3)) is one datagram a message on the socket that $NOTIFY_SOCKET names. Node
 * has no datagram sockets of the unix family. The ways around: a native module (one more to compile for each machine),
 * `OpenFile=` (systemd 253 and newer), or systemd's own `systemd-notify`, which every machine with systemd has. This is
 * the last: a process of a few milliseconds at the start, at the end, and twice per watchdog interval.
 *
 * The message then comes from a child, so the unit needs `NotifyAccess=all`.
 */

/** Longer than this a message does not matter any more; a child that hangs must not pile up. */
const SEND_MS_MAX = 5000;

export interface SdNotifyOptions {
  /** `process.env`: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked at. */
  environment: NodeJS.ProcessEnv;
  /** Told once when `systemd-notify` cannot be run. */
  onProblem: (message: string) => void;
  /** Process id that the watchdog is meant for. */
  pid?: number;
}

/**
 * Tells systemd how the agent is. Outside of systemd (no NOTIFY_SOCKET) it does nothing. The watchdog is fed by a timer
 * of the event loop: an agent whose loop hangs is not heard of, and systemd starts it anew.
 */
export class SdNotify {
  /** Milliseconds between two signs of life; undefined when systemd wants none. */
  readonly watchdogMs: number | undefined;
  private readonly options: SdNotifyOptions;
  private readonly enabled: boolean;
  private timer: NodeJS.Timeout | undefined;
  private sending = false;
  private failed = false;

  constructor(options: SdNotifyOptions) {
    this.options = options;
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = options.environment;
    this.enabled = NOTIFY_SOCKET !== undefined && NOTIFY_SOCKET !== '';
    const usec = Number(WATCHDOG_USEC);
    // The variables are inherited; WATCHDOG_PID says for whom they are.
    const forUs = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === (options.pid ?? process.pid);
    // Half of the time, as sd_watchdog_enabled(3) recommends.
    this.watchdogMs = this.enabled && forUs && usec > 0 ? Math.max(1, usec / 2000) : undefined;
  }

  /** The agent is up: systemd goes on with what comes after it, and the watchdog begins to be fed. */
  async ready(status: string): Promise<void> {
    await this.send('READY=1', `STATUS=${status}`);
    if (this.watchdogMs !== undefined)
      this.timer = setInterval(() => void this.alive(), this.watchdogMs).unref();
  }

  /** The agent ends because it was told to, or because its source has ended. */
  async stopping(): Promise<void> {
    clearInterval(this.timer);
    await this.send('STOPPING=1');
  }

  private async alive(): Promise<void> {
    if (this.sending) return; // the one before still runs: a second one would say nothing new
    this.sending = true;
    await this.send('WATCHDOG=1');
    this.sending = false;
  }

  private send(...assignments: string[]): Promise<void> {
    if (!this.enabled) return Promise.resolve();
    return new Promise((resolve) => {
      execFile(
        'systemd-notify',
        assignments,
        { env: this.options.environment, timeout: SEND_MS_MAX },
        (error) => {
          if (error !== null && !this.failed) {
            this.failed = true;
            this.options.onProblem(
              `systemd cannot be told how the agent is: systemd-notify failed (${messageOf(error).trim()}). ` +
                'Install it, or use Type=exec without WatchdogSec in the unit.',
            );
          }
          resolve();
        },
      );
    });
  }
}
