import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What wrk has seen. */
export interface WrkRun {
  requests: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** Answers that were not 2xx or 3xx, and connections that failed. */
  errors: number;
}

/** Throws, saying what to install, if wrk is missing. */
export async function needWrk(): Promise<void> {
  try {
    await run('wrk', ['-v']);
  } catch (error) {
    // It ends with status 1 after it has said its version.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new Error('There is no wrk here, which measures HTTP servers (Debian: apt install wrk).', {
        cause: error,
      });
  }
}

/**
 * Has cars poll by wrk from one thread, as fast as they are answered: each request is of another car of `vehicles`, in an
 * order that looks random, with its token. `etag` is what they have.
 */
export async function wrkPolls(options: {
  url: string;
  dir: string;
  vehicles: number;
  signalSet: string;
  etag: string;
  connections: number;
  seconds: number;
}): Promise<WrkRun> {
  const { url, dir, vehicles, signalSet, etag, connections, seconds } = options;
  const script = `${dir}/poll.lua`;
  writeFileSync(
    script,
    `
local n = 0
function request()
  -- 7919 and the number of cars have no common divisor: it comes to each of them
  n = (n + 7919) % ${vehicles}
  local id = string.format("car-%06d", n)
  return wrk.format("GET", "/v1/vehicles/" .. id .. "/desired?signalSet=${signalSet}", {
    ["Authorization"] = "Bearer token-of-" .. id, ["If-None-Match"] = '"${etag}"',
  })
end
function done(summary, latency)
  local e = summary.errors
  print(string.format('{"requests":%d,"perSecond":%.1f,"p50Ms":%.3f,"p99Ms":%.3f,"maxMs":%.3f,"errors":%d}',
    summary.requests, summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency.max / 1000, e.connect + e.read + e.write + e.timeout + e.status))
end
`,
  );
  const { stdout } = await run('wrk', [
    ...['-t', '1', '-c', String(connections), '-d', `${seconds}s`, '--timeout', '5s', '-s', script, url],
  ]);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as WrkRun;
}
