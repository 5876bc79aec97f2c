import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ChildGuard, type Child } from '../child-guard.ts';
import { freePorts, isFree } from '../free-ports.ts';

const START_MS = 30_000;

/** A running Mosquitto on 127.0.0.1 that lets everybody in. */
export interface Mosquitto {
  /** `mqtt://127.0.0.1:PORT` */
  url: string;
  port: number;
  /** SIGKILL, as by a power cut. Resolves when the process is gone. */
  kill: () => Promise<void>;
  /** Starts it again after `kill`, on the same port and with what it had stored; resolves when it serves. */
  start: () => Promise<void>;
  /** Ends it and removes its files, but not `persistenceDir`. */
  stop: () => Promise<void>;
}

/** What `startMosquitto` starts. */
export interface MosquittoOptions {
  /** Default: a free one. */
  port?: number;
  /** Further lines for mosquitto.conf. They come after our own, and the last one counts. */
  config?: string[];
  /**
   * Folder for sessions, queued and retained messages, which then outlive `kill`. Mosquitto writes it after each round
   * of its loop, so a message that it acknowledged a millisecond before a `kill` may be gone. Default: memory only.
   */
  persistenceDir?: string;
}

/**
 * Starts Eclipse Mosquitto and resolves when it answers an MQTT client. No message is dropped for the length of a
 * queue. It ends with this process in any case. Throws, saying what to install, if Mosquitto is missing, and when the
 * port is in use.
 */
export async function startMosquitto(options: MosquittoOptions = {}): Promise<Mosquitto> {
  const program = findMosquitto();
  for (let tries = 1; ; tries++) {
    const port = options.port ?? (await freePorts(1))[0]!;
    if (options.port !== undefined && !(await isFree(port)))
      throw new Error(`Port ${port} is in use here. Stop what listens there, or choose another one.`);
    try {
      return await startOn(program, port, options);
    } catch (error) {
      // Somebody took the port between the look and the start.
      if (tries === 5 || !(error instanceof Error && error.message.includes('Address already in use')))
        throw error;
    }
  }
}

async function startOn(program: string, port: number, options: MosquittoOptions): Promise<Mosquitto> {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-mosquitto-'));
  const guard = new ChildGuard(dir);
  const [config, log] = [join(dir, 'mosquitto.conf'), join(dir, 'mosquitto.log')];
  writeFileSync(
    config,
    [
      `listener ${port} 127.0.0.1`,
      'allow_anonymous true',
      'max_queued_messages 0',
      // Nothing is asked of the system's mosquitto user, who could not read these files.
      'user root',
      ...(options.persistenceDir === undefined
        ? ['persistence false']
        : [
            'persistence true',
            `persistence_location ${options.persistenceDir}/`,
            'autosave_on_changes true',
            'autosave_interval 1',
          ]),
      ...(options.config ?? []),
    ].join('\n') + '\n',
  );

  let child: Child | undefined;
  const kill = async () => {
    child?.process.kill('SIGKILL');
    await child?.ended;
    child = undefined;
  };
  const start = async () => {
    if (child !== undefined) throw new Error('This Mosquitto runs already.');
    child = await guard.start(program, ['-c', config], log);
    let ended: string | undefined;
    void child.ended.then((how) => (ended = how));
    const deadline = Date.now() + START_MS;
    while (!(await answers(port))) {
      if (ended === undefined && Date.now() < deadline) {
        await pause(20);
        continue;
      }
      const what = ended === undefined ? 'does not serve' : `ended by itself (${ended})`;
      await kill();
      throw new Error(`Mosquitto ${what}. It says:\n${readFileSync(log, 'utf8').trim()}`);
    }
  };
  const stop = async () => {
    if (options.persistenceDir !== undefined) {
      child?.process.kill('SIGTERM');
      await child?.ended;
    }
    await guard.close();
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return { url: `mqtt://127.0.0.1:${port}`, port, kill, start, stop };
}

/** Debian has it in /usr/sbin, which is not in every PATH. */
function findMosquitto(): string {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']) {
    const program = join(folder, 'mosquitto');
    if (folder !== '' && existsSync(program)) return program;
  }
  throw new Error('There is no Mosquitto here. On Debian and Ubuntu: apt install mosquitto');
}

/** CONNECT of MQTT 3.1.1 with a clean session and an empty client id. */
const CONNECT = Buffer.from([0x10, 12, 0, 4, ...Buffer.from('MQTT'), 4, 2, 0, 60, 0, 0]);
const DISCONNECT = Buffer.from([0xe0, 0]);

/** Whether a broker on this port accepts a client: CONNACK with return code 0. */
async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  socket.setTimeout(2000, () => socket.destroy(new Error('no CONNACK')));
  try {
    await once(socket, 'connect');
    socket.write(CONNECT);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    socket.end(DISCONNECT);
    return answer[0] === 0x20 && answer[3] === 0;
  } catch {
    return false;
  } finally {
    socket.destroySoon();
  }
}
