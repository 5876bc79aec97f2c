/** What the programs under ops/ and parts/ say when something is not installed. */
const MISSING =
  /^(There is no (Java|Maven|Mosquitto|Go|wrk)\b|This Java is too old|This system has no \/proc)/;

/**
 * Starts what a bench needs. Where a tool is missing it says so in one line on standard error, and resolves to
 * undefined: a bench is skipped then, it does not fail.
 */
export async function orSkip<T>(what: string, start: () => Promise<T>): Promise<T | undefined> {
  try {
    return await start();
  } catch (error) {
    if (!(error instanceof Error && MISSING.test(error.message))) throw error;
    process.stderr.write(`Skipping ${what}. ${error.message}\n`);
    return undefined;
  }
}
