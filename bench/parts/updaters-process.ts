/**
 * Cars of a fleet in one process, each with the agent's own updater: hints over MQTT, everything else over HTTP, models
 * verified, written to the disk, loaded and tested. Says in lines of JSON when a car scores with a version:
 *
 *   node --import tsx bench/parts/updaters-process.ts REGISTRY ROOT MQTT DIR FROM TO
 *
 * It ends when its standard input does.
 */
import { join } from 'node:path';
import mqtt from 'mqtt';
import { mqttTopic, parseMqttTopic } from '@cardan/shared';
import { loadOnBoard } from '../../agent/src/scoring/load-on-board.ts';
import { parseDesired } from '../../agent/src/updater/desired.ts';
import { Updater } from '../../agent/src/updater/updater.ts';
import { benchCarId } from './bench-car.ts';
import { SIGNALS } from './published-model.ts';

/** What a line says: this car runs this version now (milliseconds since 1970). */
export interface UpdatedLine {
  vehicle: string;
  version: string;
  at: number;
}

const [baseUrl = '', rootPath = '', mqttUrl = '', dir = '', from = '', to = ''] = process.argv.slice(2);

const updaters = new Map<string, Updater>();
for (let number = Number(from); number < Number(to); number++) {
  const vehicle = benchCarId(number);
  let running: string | undefined;
  const updater = new Updater({
    dir: join(dir, vehicle),
    rootPath,
    baseUrl,
    vehicle,
    signalSet: SIGNALS.id,
    onInstalled: async (files) => void (await loadOnBoard(files, SIGNALS.id)),
    onCandidate: async () => undefined,
    onReport: ({ active, error }) => {
      if (error !== null) process.stderr.write(`${vehicle}: ${error.code}: ${error.message}\n`);
      if (active === null || active.version === running) return;
      running = active.version;
      const line: UpdatedLine = { vehicle, version: running, at: Date.now() };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    },
  });
  updaters.set(vehicle, updater);
  await updater.start();
}

const client = mqtt.connect(mqttUrl, { protocolVersion: 4 });
client.on('connect', () => client.subscribe(mqttTopic('+', 'desired'), { qos: 1 }));
client.on('message', (topic, payload) => {
  updaters.get(parseMqttTopic(topic)?.vehicle ?? '')?.hint(parseDesired(payload));
});

process.stdin.resume().on('end', () => process.exit(0));
