import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { CardanError, checkVehicleId, messageOf, mqttConnection, type MqttFiles } from '@cardan/shared';
import { checkBroker } from './broker.ts';
import { checkBus } from './bus.ts';
import { checkCertificate } from './certificate.ts';
import { checkClock } from './clock.ts';
import { checkCoverage, checkDbc } from './coverage.ts';
import { checkDisk } from './disk.ts';
import { Findings, type Finding } from './finding.ts';
import { checkOutbox } from './outbox.ts';
import { checkObd } from './obd.ts';
import { checkRegistry } from './registry.ts';
import { checkRuntime, memoryAvailable } from './runtime.ts';
import { Traffic } from './traffic.ts';

/** The options of `run` that matter here. */
export interface DoctorOptions extends MqttFiles {
  can: string[];
  dbc: string;
  vss?: string;
  vehicle: string;
  data: string;
  registry?: string;
  root?: string;
  j1939?: boolean;
  obd?: string;
  /** How long each bus is listened to. */
  seconds: number;
  /** One JSON object a line. */
  json?: boolean;
  out: Writable;
  now?: () => number;
}

/** Beyond the time of listening, no subject may take longer: each has shorter bounds of its own. */
const SUBJECT_MS_MAX = 60_000;

/**
 * Looks at everything that an agent with these options needs, prints one line for each thing, and goes on whatever it
 * finds.
 *
 * @returns how many failed
 * @throws CardanError USAGE when the vehicle's id cannot be one
 */
export async function doctorCommand(options: DoctorOptions): Promise<number> {
  const { vehicle: text, seconds, mqtt: url, registry, root, now = Date.now } = options;
  const vehicle = checkVehicleId(text);
  const dataDir = join(options.data, vehicle);
  const count = { ok: 0, warn: 0, fail: 0, skipped: 0 };
  const print = (findings: Findings) => {
    for (const finding of findings.list) {
      count[finding.status]++;
      options.out.write(options.json === true ? `${JSON.stringify(finding)}\n` : lines(finding));
    }
  };
  const look = async (what: string, check: () => Findings | Promise<Findings>, ms = SUBJECT_MS_MAX) =>
    print(await bounded(what, check, ms));

  await look('runtime', () => checkRuntime({ nodeVersion: process.version, memoryAvailable }));
  const traffic = new Traffic();
  const { findings: ofDbc, dbc } = checkDbc(options.dbc, options.vss);
  print(ofDbc);
  const { obd } = options;
  if (obd !== undefined) await look('obd', () => checkObd(obd, options.can));
  for (const can of options.can)
    await look(`bus ${can}`, () => checkBus({ can, seconds, traffic }), 1000 * seconds + SUBJECT_MS_MAX);
  if (dbc !== undefined)
    await look('coverage', () => checkCoverage(dbc, traffic, { j1939: options.j1939 === true }));
  await look('clock', () => checkClock({ now, registry }));
  await look('disk', () => checkDisk({ dataDir }));
  await look('outbox', () => checkOutbox(dataDir));
  await look('broker', async () => {
    const findings = new Findings();
    let connection;
    try {
      connection = mqttConnection(options);
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      findings.fail('broker', error.message, 'Check the path and the rights of the file.');
      return findings;
    }
    findings.list.push(...checkCertificate({ connection, vehicle, url, now }).list);
    findings.list.push(...(await checkBroker({ url, connection, vehicle, now })).list);
    return findings;
  });
  await look('registry', () => checkRegistry({ registry, root, dataDir, now }));
  if (options.json !== true)
    options.out.write(
      `\n${count.ok} ok, ${count.warn} to look at, ${count.fail} failed, ${count.skipped} skipped\n`,
    );
  return count.fail;
}

function lines({ status, what, finding, advice }: Finding): string {
  return (
    `${status.padEnd(7)}  ${what.padEnd(17)}  ${finding}\n` +
    (advice === undefined ? '' : `${' '.repeat(9)}→ ${advice}\n`)
  );
}

/** One subject that breaks or hangs must not keep the others from being looked at. */
async function bounded(
  what: string,
  check: () => Findings | Promise<Findings>,
  ms: number,
): Promise<Findings> {
  const failed = (finding: string) => {
    const findings = new Findings();
    findings.fail(what, finding, 'This should not happen. Please report it with this line.');
    return findings;
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Findings>((resolve) => {
    timer = setTimeout(() => resolve(failed(`nothing after ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([Promise.resolve().then(check), late]);
  } catch (error) {
    return failed(messageOf(error));
  } finally {
    clearTimeout(timer);
  }
}
