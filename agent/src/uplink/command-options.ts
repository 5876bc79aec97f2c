import { Option, type Command } from 'commander';
import { numberBetween } from '@cardan/shared';
import { AGENT_DEFAULTS } from '../config.ts';
import { COMPRESSIONS, type Compression } from '../outbox.ts';

export interface StoreAndForwardOptions {
  dayMegabytes?: number;
  compression: Compression;
  synchronous: 'normal' | 'full';
}

/** Options of `run` that say how rows are kept and sent. */
export function storeAndForwardOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--day-megabytes <number>',
        'a metered link: most that goes up a day (UTC); rows wait, events go',
      )
        .env('CARDAN_DAY_MEGABYTES')
        .argParser(numberBetween(0.01, 1_000_000)),
    )
    .addOption(
      new Option('--compression <how>', 'how rows go up; zstd needs Node.js 22.15 here and at the bridge')
        .env('CARDAN_COMPRESSION')
        .choices(COMPRESSIONS)
        .default(AGENT_DEFAULTS.uplink.compression),
    )
    .addOption(
      new Option('--synchronous <how>', 'a power cut may take the last rows (normal), or none (full: slower)')
        .choices(['normal', 'full'])
        .default(AGENT_DEFAULTS.outbox.synchronous.toLowerCase()),
    );
}

/** What `Agent.start` takes of them. */
export function storeAndForward(options: StoreAndForwardOptions) {
  const { dayMegabytes, compression, synchronous } = options;
  return {
    uplink: { compression, ...(dayMegabytes === undefined ? {} : { dayBytesMax: dayMegabytes * 1_000_000 }) },
    outbox: { synchronous: synchronous === 'full' ? ('FULL' as const) : ('NORMAL' as const) },
  };
}
