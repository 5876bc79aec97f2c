import { fileURLToPath } from 'node:url';
import prettier from 'prettier';
import { replaceFile } from '@cardan/shared';
import { openApiDocument } from './document.ts';

// `npm run openapi`: writes what the registry serves at /openapi.json to docs/openapi.json.
const path = fileURLToPath(new URL('../../docs/openapi.json', import.meta.url));
const options = await prettier.resolveConfig(path);
const text = await prettier.format(JSON.stringify(await openApiDocument()), { ...options, parser: 'json' });
await replaceFile(path, text);
console.error(`wrote ${path}`);
