/** The few words of the Test Anything Protocol: one line per test, `# ` before what is only told. */
export interface Tap {
  test: (name: string, run: () => Promise<void>) => Promise<void>;
  /** Prints the plan; whether all tests held. */
  end: () => boolean;
}

export function tap(print: (line: string) => void, limitMs: number): Tap {
  let count = 0;
  let failed = 0;
  return {
    async test(name, run) {
      count++;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not done after ${limitMs / 1000} s`)), limitMs);
      });
      try {
        await Promise.race([run(), late]);
        print(`ok ${count} - ${name}`);
      } catch (error) {
        failed++;
        print(`not ok ${count} - ${name}`);
        const words = error instanceof Error ? (error.stack ?? error.message) : String(error);
        for (const line of words.split('\n').slice(0, 40)) print(`# ${line}`);
      } finally {
        clearTimeout(timer);
      }
    },
    end() {
      print(`1..${count}`);
      return count > 0 && failed === 0;
    },
  };
}
