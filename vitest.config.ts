import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import type { Reporter, TestModule } from 'vitest/node';

const FOLDERS = ['shared', 'agent', 'bridge', 'cloud', 'simulators', 'ops'];

/** Says what the plain run leaves out. */
const realTests: Reporter = {
  onTestRunEnd(modules: readonly TestModule[]) {
    if (modules.some((module) => module.moduleId.endsWith('.real.ts'))) return;
    const files = FOLDERS.map((folder) => `${import.meta.dirname}/${folder}/test`)
      .filter((folder) => existsSync(folder))
      .flatMap((folder) => readdirSync(folder, { recursive: true, encoding: 'utf8' }))
      .filter((file) => file.endsWith('.real.ts'));
    console.log(
      `${files.length} more test files need a real Kafka and Mosquitto. Run them by: npm run test:real`,
    );
  },
};

/** Ends the output with one plain line that any tool can read: `N passed, N failed, N skipped`. */
const plainSummary: Reporter = {
  onTestRunEnd(modules: readonly TestModule[]) {
    const count = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    for (const module of modules) for (const test of module.children.allTests()) count[test.result().state]++;
    console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped + count.pending} skipped`);
  },
};

export default defineConfig({
  test: {
    include: FOLDERS.map((folder) => `${folder}/test/**/*.test.ts`),
    setupFiles: ['./vitest.setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Files run in processes of their own: better-sqlite3 is a native module, and a crash stays visible.
    pool: 'forks',
    // Much of the time they wait for processes of their own, so that two keep even two cores busy.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    reporters: ['default', realTests, plainSummary],
  },
});
