import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const POM = fileURLToPath(new URL('pom.xml', import.meta.url));
const run = promisify(execFile);

/** The Java program: that of JAVA_HOME, else the one in PATH. Throws, saying what to install, unless it is 17 or newer. */
export async function findJava(): Promise<string> {
  const home = process.env.JAVA_HOME;
  const java = home === undefined || home === '' ? 'java' : join(home, 'bin', 'java');
  const wanted = 'Kafka needs Java 17 or newer. On Debian and Ubuntu: apt install openjdk-17-jre-headless';
  let text;
  try {
    text = (await run(java, ['-version'])).stderr;
  } catch (cause) {
    throw new Error(`There is no Java here (${java}). ${wanted}`, { cause });
  }
  const version = Number(/version "(\d+)/.exec(text)?.[1]);
  if (!(version >= 17)) throw new Error(`This Java is too old (${text.split('\n')[0] ?? ''}). ${wanted}`);
  return java;
}

/**
 * The folder with Kafka's jars. They are fetched by Maven on the first use, 60 MB, and kept in $CARDAN_KAFKA_DIR or
 * ~/.cache/cardan/kafka-VERSION-…, where the end stands for this pom.xml. Processes that fetch at the same time do not
 * meet: each has a folder of its own, and the first one that is ready stays.
 */
export async function kafkaJars(): Promise<string> {
  const pom = readFileSync(POM);
  const version = /<kafka\.version>(.+)<\/kafka\.version>/.exec(pom.toString())?.[1] ?? '';
  const hash = createHash('sha256').update(pom).digest('hex').slice(0, 8);
  const jars =
    process.env.CARDAN_KAFKA_DIR || join(homedir(), '.cache', 'cardan', `kafka-${version}-${hash}`);
  if (hasKafka(jars)) return jars;
  mkdirSync(dirname(jars), { recursive: true });
  const fetched = mkdtempSync(join(dirname(jars), `.${basename(jars)}-`));
  try {
    await fetchJars(fetched);
    try {
      renameSync(fetched, jars);
    } catch (error) {
      if (!hasKafka(jars)) throw error;
    }
  } finally {
    rmSync(fetched, { recursive: true, force: true });
  }
  return jars;
}

async function fetchJars(folder: string): Promise<void> {
  const args = ['-B', '-q', '-f', POM, 'dependency:copy-dependencies', `-DoutputDirectory=${folder}`];
  try {
    await run('mvn', args, { maxBuffer: 1 << 26 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
      throw new Error(
        'There is no Maven here (mvn), which fetches Kafka. On Debian and Ubuntu: apt install maven. ' +
          'Or set CARDAN_KAFKA_DIR to the folder libs of an unpacked Kafka 4.',
        { cause },
      );
    const { stdout, stderr } = cause as { stdout: string; stderr: string };
    const said = (stdout + stderr).trim().split('\n').slice(0, 5).join('\n');
    throw new Error(`Maven could not fetch Kafka's jars. It says:\n${said}`, { cause });
  }
}

function hasKafka(folder: string): boolean {
  try {
    return readdirSync(folder).some((name) => /^kafka_2\.13-.*\.jar$/.test(name));
  } catch {
    return false;
  }
}
