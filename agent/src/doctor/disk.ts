import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { messageOf, systemCode } from '@cardan/shared';
import { AGENT_DEFAULTS } from '../config.ts';
import { bytesText, Findings } from './finding.ts';

/** Below this not even an outbox can be made. */
const FREE_BYTES_MIN = 16 * 1024 * 1024;
/** The outbox takes at most half of what is free, so this much is wanted for its full size. */
const FREE_BYTES_WANTED = 2 * AGENT_DEFAULTS.outbox.bytesMax;
const WRITE_BYTES = 64 * 1024;
/** A write of 64 kB that takes longer than this: a card that is worn, or busy. */
const WRITE_MS_WARN = 2000;

export interface DiskOptions {
  /** Folder of the vehicle's outbox and models; may not be there yet. */
  dataDir: string;
  /** Where the kernel lists its disks. */
  blockDir?: string;
}

/** Room, a real write, and what the memory card says of its wear. */
export function checkDisk(options: DiskOptions): Findings {
  const findings = new Findings();
  const dir = nearest(resolve(options.dataDir));
  const absent = dir === resolve(options.dataDir) ? '' : `${options.dataDir} is not there yet; `;
  space(findings, dir);
  writing(findings, dir, absent);
  wear(findings, options.blockDir ?? '/sys/class/block');
  return findings;
}

/** The folder itself, or the next one above that is there. */
function nearest(dir: string): string {
  let at = dir;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  return at;
}

function space(findings: Findings, dir: string): void {
  const what = 'disk space';
  let free: number;
  let total: number;
  try {
    const { bavail, blocks, bsize } = statfsSync(dir);
    [free, total] = [bavail * bsize, blocks * bsize];
  } catch (error) {
    return findings.fail(what, `${dir}: ${messageOf(error)}`, 'Choose another folder with --data.');
  }
  const text = `${bytesText(free)} of ${bytesText(total)} free at ${dir}`;
  if (free < FREE_BYTES_MIN)
    findings.fail(what, text, 'Delete what is not needed, or choose another disk with --data.');
  else if (free < FREE_BYTES_WANTED)
    findings.warn(
      what,
      text,
      `The outbox takes at most half of it, so it keeps rows for a shorter time; its full size needs ${bytesText(FREE_BYTES_WANTED)}.`,
    );
  else findings.ok(what, text);
}

function writing(findings: Findings, dir: string, absent: string): void {
  const what = 'disk write';
  const path = join(dir, `.cardan-doctor-${process.pid}`);
  const begun = performance.now();
  try {
    accessSync(dir, constants.W_OK | constants.X_OK);
    const file = openSync(path, 'wx', 0o600);
    try {
      const bytes = Buffer.alloc(WRITE_BYTES, 0xa5);
      writeSync(file, bytes);
      fsyncSync(file);
      if (!readFileSync(path).equals(bytes)) throw new Error('what was written was not read back');
    } finally {
      closeSync(file);
      rmSync(path, { force: true });
    }
  } catch (error) {
    const code = systemCode(error);
    const advice =
      code === 'EROFS'
        ? 'The file system is read-only: by its mount options, or since the kernel met errors (dmesg tells). An old SD card ends this way.'
        : code === 'ENOSPC' || code === 'EDQUOT'
          ? 'The disk is full. Delete what is not needed.'
          : code === 'EACCES' || code === 'EPERM'
            ? 'Run the doctor as the user of the agent; change the owner of the folder if it is that one.'
            : 'Check the disk (dmesg), or choose another folder with --data.';
    return findings.fail(what, `${absent}cannot write in ${dir} (${code ?? messageOf(error)})`, advice);
  }
  const ms = Math.round(performance.now() - begun);
  const text = `${absent}64 kB written, flushed and read back in ${ms} ms`;
  if (ms > WRITE_MS_WARN)
    findings.warn(what, text, 'The disk is slow: busy, or worn out. Rows wait in memory meanwhile.');
  else findings.ok(what, text);
}

/** eMMC tells its wear in tenths; SD cards tell nothing. */
function wear(findings: Findings, blockDir: string): void {
  const what = 'flash wear';
  const found: { name: string; tenths: number; preEol: number }[] = [];
  try {
    for (const name of readdirSync(blockDir)) {
      if (!/^mmcblk\d+$/.test(name)) continue;
      const read = (file: string) => {
        const path = join(blockDir, name, 'device', file);
        return existsSync(path) ? readFileSync(path, 'latin1').trim().split(/\s+/).map(Number) : [];
      };
      const tenths = Math.max(0, ...read('life_time').filter((value) => value > 0));
      if (tenths > 0) found.push({ name, tenths, preEol: read('pre_eol_info')[0] ?? 0 });
    }
  } catch {
    // not Linux
  }
  if (found.length === 0)
    return findings.skip(
      what,
      'no disk here tells it (only eMMC does, SD cards do not)',
      'Nothing; keep a copy of the configuration, and change SD cards every few years.',
    );
  for (const { name, tenths, preEol } of found) {
    const text =
      tenths > 10 ? `${name} is beyond its life` : `${name} has used up to ${10 * tenths} % of its life`;
    if (tenths > 10 || preEol === 3) findings.fail(what, text, 'Replace it before it turns read-only.');
    else if (tenths > 8 || preEol === 2) findings.warn(what, text, 'Plan to replace it.');
    else findings.ok(what, text);
  }
}
