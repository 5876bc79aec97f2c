import { defineConfig } from 'vitest/config';
import base from './vitest.config.ts';

/** `npm run test:real`: what needs a real Kafka and a real Mosquitto. Both are started here, once for all files. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: ['{shared,agent,bridge,cloud,simulators,ops}/test/**/*.real.ts'],
    globalSetup: ['ops/test/real-brokers.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // They share two cores with the brokers.
    maxWorkers: 2,
  },
});
