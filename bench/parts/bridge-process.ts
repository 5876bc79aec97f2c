import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ChildGuard } from '../../ops/child-guard.ts';
import { freePorts } from '../../ops/free-ports.ts';

const BIN = fileURLToPath(new URL('../../bridge/bin/cardan-bridge.js', import.meta.url));
const START_MS = 30_000;

/** A `cardan-bridge` in a process of its own. */
export interface BridgeProcess {
  pid: number;
  /** The sum of a counter over its labels, from /metrics. */
  counter: (name: string) => Promise<number>;
  /** SIGTERM; resolves to what it has said. Rejects unless it ended well. */
  stop: () => Promise<string>;
}

/** Starts the command as an operator does, with its defaults; resolves when it is ready. `nodeArgs` are for Node.js. */
export async function startBridge(
  guard: ChildGuard,
  options: { mqttUrl: string; brokers: string; output: string; nodeArgs?: readonly string[] },
): Promise<BridgeProcess> {
  const { mqttUrl, brokers, output, nodeArgs = [] } = options;
  const [port] = (await freePorts(1)) as [number];
  const args = [...nodeArgs, BIN, '--mqtt', mqttUrl, '--kafka', brokers, '--metrics-port', String(port)];
  const child = await guard.start(process.execPath, args, output);
  let ended: string | undefined;
  void child.ended.then((how) => (ended = how));
  const said = () => readFileSync(output, 'utf8').trim();
  const get = (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
  for (const deadline = Date.now() + START_MS; ; await pause(50)) {
    const ready = await get('/readyz').then(
      ({ status }) => status === 200,
      () => false,
    );
    if (ready) break;
    if (ended !== undefined || Date.now() > deadline)
      throw new Error(`The bridge ${ended ?? 'is not ready'}. It says:\n${said()}`);
  }
  return {
    pid: child.process.pid!,
    counter: async (name) => {
      const lines = (await (await get('/metrics')).text()).split('\n');
      const values = lines.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
      return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    },
    stop: async () => {
      child.process.kill('SIGTERM');
      const how = await child.ended;
      if (how !== 'exit status 0') throw new Error(`The bridge ended with ${how}. It says:\n${said()}`);
      return said();
    },
  };
}
