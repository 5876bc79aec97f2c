import type { VehicleTroubleCodes } from '@cardan/shared';
import type { Dm1 } from '../j1939/index.ts';
import type { UdsTroubleCode } from './uds.ts';

/** J1939 has 254 addresses, and a car speaks with up to 32 control units in two ways. */
const UNITS_MAX = 512;
/** DM1 comes every second; a code that comes and goes is told this often at most. What is asked for has its own period. */
const PERIOD_MS_MIN = 10_000;

/** What each control unit said last: only what is new goes up. */
export class TroubleCodeReports {
  /** States that were left out because their control unit had changed its mind too quickly, or was one too many. */
  skipped = 0;
  readonly #last = new Map<string, { text: string; time: number }>();
  readonly #tell: (codes: VehicleTroubleCodes, time: number) => void;

  constructor(tell: (codes: VehicleTroubleCodes, time: number) => void) {
    this.#tell = tell;
  }

  stored(unit: number, codes: readonly string[], time: number): void {
    this.#report({ source: 'obd', unit, codes: codes.map((code) => ({ code, status: ['stored'] })) }, time);
  }

  uds(unit: number, codes: readonly UdsTroubleCode[], time: number): void {
    this.#report(
      { source: 'uds', unit, codes: codes.map(({ code, flags }) => ({ code, status: flags })) },
      time,
    );
  }

  dm1(address: number, { codes, ...lamps }: Dm1, time: number): void {
    this.#report(
      {
        source: 'j1939',
        unit: address,
        codes: codes.map(({ spn, fmi, occurrences }) => ({
          code: `SPN ${spn} FMI ${fmi}`,
          status: ['active'],
          ...(occurrences === null ? {} : { occurrences }),
        })),
        lamps: Object.entries(lamps)
          .filter(([, state]) => state === 'on')
          .map(([lamp]) => lamp),
      },
      time,
    );
  }

  #report(report: VehicleTroubleCodes, time: number): void {
    const key = `${report.source} ${report.unit}`;
    const codes = [...report.codes].sort((a, b) => (a.code < b.code ? -1 : 1));
    const text = JSON.stringify([codes, report.lamps]);
    const last = this.#last.get(key);
    if (last?.text === text) return;
    const tooSoon =
      report.source === 'j1939' &&
      last !== undefined &&
      time >= last.time &&
      time < last.time + PERIOD_MS_MIN;
    if (tooSoon || (last === undefined && this.#last.size >= UNITS_MAX)) {
      this.skipped++;
      return;
    }
    this.#last.set(key, { text, time });
    this.#tell({ ...report, codes }, time);
  }
}
