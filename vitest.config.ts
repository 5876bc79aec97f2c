import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{shared,agent,bridge,cloud,simulators}/test/**/*.test.ts', 'bench/test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Files run in processes of their own: better-sqlite3 is a native module, and a crash stays visible.
    pool: 'forks',
  },
});
