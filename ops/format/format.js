#!/usr/bin/env node
// Node 22.18 and newer run the TypeScript sources as they are; older ones need tsx.
if (!process.features.typescript) (await import('tsx/esm/api')).register();
await import('./main.ts');
