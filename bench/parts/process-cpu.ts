import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** Linux tells of each process in /proc what it has used. Throws on other systems. */
export function needProc(): void {
  if (!existsSync('/proc/self/stat'))
    throw new Error('This system has no /proc, which says what a process has used. Run it on Linux.');
}

let ticks: number | undefined;
/** Ticks of the clock that /proc counts in, per second: 100 nearly everywhere. */
function ticksPerSecond(): number {
  ticks ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  return ticks;
}

/** CPU that a process has used with all its threads, in user mode and in the kernel; seconds, in steps of 10 ms. */
export function cpuSecondsOf(pid: number): number {
  const { utime, stime } = stat(String(pid));
  return (utime + stime) / ticksPerSecond();
}

/** The same of all child processes of this one that have ended. */
export function cpuSecondsOfEndedChildren(): number {
  const { cutime, cstime } = stat('self');
  return (cutime + cstime) / ticksPerSecond();
}

/** Memory of a process that is in RAM now, and the most that ever was; bytes. */
export function memoryOf(pid: number): { rss: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024;
  return { rss: bytes('VmRSS'), peak: bytes('VmHWM') };
}

function stat(process: string): { utime: number; stime: number; cutime: number; cstime: number } {
  const line = readFileSync(`/proc/${process}/stat`, 'utf8');
  // The second field is the program's name in parentheses, which may hold anything; `state` is the third.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number) as [number, number, number, number];
  return { utime, stime, cutime, cstime };
}
