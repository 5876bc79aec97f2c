import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Child, ChildGuard } from '../child-guard.ts';
import { serves } from './serves.ts';

/** Until when a node must serve. It takes 3 to 6 s on an idle machine with two cores. */
const START_MS = 120_000;
/** How long Kafka's controlled shutdown may take before SIGKILL. */
const STOP_MS = 20_000;

/** One broker, which is a controller too. */
export interface KafkaNode {
  id: number;
  /** Of the listener for clients. */
  port: number;
  /** SIGKILL, as by a power cut. Resolves when the process is gone. */
  kill: () => Promise<void>;
  /** SIGTERM: Kafka's controlled shutdown, in which leadership moves to other nodes. */
  stop: () => Promise<void>;
  /**
   * Starts it again on the same port and folder; resolves when it serves. Of three nodes, two must be up for that:
   * start the second without waiting for the first.
   */
  start: () => Promise<void>;
}

/** How the program of a node is run. */
export interface NodeProgram {
  id: number;
  clientPort: number;
  internalPort: number;
  java: string;
  javaArgs: string[];
  /** The file for what it prints. */
  log: string;
}

/** A node that does not run yet. `start` waits until it knows these nodes as registered, itself only by default. */
export function kafkaNode(
  guard: ChildGuard,
  program: NodeProgram,
): KafkaNode & { start: (ids?: number[]) => Promise<void> } {
  const { id, log } = program;
  let child: Child | undefined;
  const end = async (signal: 'SIGKILL' | 'SIGTERM') => {
    if (child === undefined) return;
    const { process, ended } = child;
    process.kill(signal);
    const late = setTimeout(() => process.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(late);
    child = undefined;
  };
  return {
    id,
    port: program.clientPort,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    async start(ids: number[] = [id]) {
      if (child !== undefined) throw new Error(`Kafka node ${id} runs already.`);
      child = await guard.start(program.java, program.javaArgs, log);
      let ended: string | undefined;
      void child.ended.then((how) => (ended = how));
      const deadline = Date.now() + START_MS;
      while (!(await serves(`127.0.0.1:${program.internalPort}`, ids))) {
        if (ended === undefined && Date.now() < deadline) {
          await pause(50);
          continue;
        }
        const what =
          ended === undefined ? `does not serve after ${START_MS / 1000} s` : `ended by itself (${ended})`;
        await end('SIGKILL');
        throw new Error(`Kafka node ${id} ${what}. Its last lines in ${log}:\n${endOf(log)}`);
      }
    },
  };
}

/** The last complaints in a log, or its last lines when there are none. */
export function endOf(log: string): string {
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-300);
  const bad = lines.filter((line) => /ERROR|FATAL|Exception/.test(line));
  return (bad.length > 0 ? bad : lines).slice(-20).join('\n');
}
