import { readFileSync } from 'node:fs';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { openApiDocument } from '../openapi/document.ts';

interface Operation {
  security?: unknown[];
  responses: Record<string, unknown>;
}

test('the OpenAPI document in docs is the one that the registry serves (npm run openapi)', async () => {
  const file = new URL('../../docs/openapi.json', import.meta.url);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(await openApiDocument());
});

test('it is OpenAPI 3.1, by the schema of the OpenAPI initiative', async () => {
  const document = await openApiDocument();
  expect(document.openapi).toBe('3.1.0');
  expect(await new Validator().validate(document)).toEqual({ valid: true });
});

test('every operation says who may call it, and how it fails', async () => {
  const { paths } = (await openApiDocument()) as unknown as {
    paths: Record<string, Record<string, Operation>>;
  };
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, ...operation })),
  );
  expect(operations.length).toBeGreaterThan(15);
  for (const { name, security, responses } of operations) {
    expect(security, name).toBeDefined();
    expect(Object.keys(responses), name).toEqual(expect.arrayContaining(['4XX', '5XX']));
  }
});
