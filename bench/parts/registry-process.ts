import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ChildGuard } from '../../ops/child-guard.ts';
import { freePorts } from '../../ops/free-ports.ts';

const BIN = fileURLToPath(new URL('../../cloud/bin/cardan-cloud.js', import.meta.url));
const START_MS = 60_000;

/** A `cardan-cloud registry` in a process of its own. */
export interface RegistryProcess {
  pid: number;
  url: string;
  rootPath: string;
  /** What it has said so far. */
  said: () => string;
  /** SIGTERM. Rejects unless it ended well. */
  stop: () => Promise<void>;
}

/** Starts the command as an operator does, on a log file in `dir`; resolves when it serves. `nodeArgs` are for Node.js. */
export async function startRegistryProcess(
  guard: ChildGuard,
  options: { dir: string; mqttUrl: string; args?: readonly string[]; nodeArgs?: readonly string[] },
): Promise<RegistryProcess> {
  const { dir, mqttUrl, args = [], nodeArgs = [] } = options;
  const [port] = (await freePorts(1)) as [number];
  const output = `${dir}/registry.log`;
  const where = ['--log', `sqlite:${dir}/log.db`, '--data', `${dir}/cloud`, '--port', String(port)];
  const child = await guard.start(
    process.execPath,
    [...nodeArgs, BIN, 'registry', '--mqtt', mqttUrl, ...where, ...args],
    output,
  );
  let ended: string | undefined;
  void child.ended.then((how) => (ended = how));
  const said = () => readFileSync(output, 'utf8').trim();
  const url = `http://127.0.0.1:${port}`;
  for (const deadline = Date.now() + START_MS; ; await pause(50)) {
    const ready = await fetch(`${url}/health`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ready) break;
    if (ended !== undefined || Date.now() > deadline)
      throw new Error(`The registry ${ended ?? 'is not ready'}. It says:\n${said()}`);
  }
  return {
    pid: child.process.pid!,
    url,
    rootPath: `${dir}/cloud/registry/tuf/1.root.json`,
    said,
    stop: async () => {
      child.process.kill('SIGTERM');
      const how = await child.ended;
      if (how !== 'exit status 0') throw new Error(`The registry ended with ${how}. It says:\n${said()}`);
    },
  };
}
