import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { campaignDocument } from './registry/campaign-fixture.ts';
import { tempDir, closeRegistries, openRegistry } from './registry/registry-fixture.ts';
import { runCommand } from './run-command.ts';

afterEach(closeRegistries);

const campaigns = (args: string[], input?: string) => runCommand(['campaigns', ...args], input);

test(
  'a campaign is published, listed, shown and withdrawn from the command line',
  { timeout: 60_000 },
  async () => {
    const { url } = await openRegistry({ token: 'secret' });
    const dir = tempDir();
    const token = join(dir, 'token');
    writeFileSync(token, 'secret\n');
    const file = join(dir, 'speed.json');
    writeFileSync(file, JSON.stringify(campaignDocument(), null, 2));
    const at = ['--registry', url, '--token-file', token];
    expect(await campaigns(['publish', file, ...at])).toMatchObject({
      code: 0,
      err: 'speed version 1 is published\n',
    });
    expect((await campaigns(['publish', file, ...at])).err).toBe(
      'speed version 1 is published; the registry had it, and cars collect it\n',
    );
    const second = JSON.stringify(campaignDocument({ version: '2' }));
    expect((await campaigns(['publish', '-', ...at], second)).code).toBe(0);
    const listed = await campaigns(['list', ...at]);
    expect(listed.out).toMatch(
      /^CAMPAIGN +COLLECTED +VERSIONS +PUBLISHED +NAME\nspeed +2 +2 +\S+Z +Speed, ten times a second\n$/,
    );
    expect(JSON.parse((await campaigns(['show', 'speed', ...at])).out)).toEqual(
      campaignDocument({ version: '2' }),
    );
    expect(JSON.parse((await campaigns(['show', 'speed', '1', ...at])).out)).toEqual(campaignDocument());
    expect((await campaigns(['withdraw', 'speed', ...at])).err).toBe('speed is withdrawn\n');
    const line = (await campaigns(['list', '--json', ...at])).out;
    expect(JSON.parse(line)).toMatchObject({ id: 'speed', live: null, versions: [{}, {}] });
  },
);

test('it says what is wrong', { timeout: 60_000 }, async () => {
  const { url } = await openRegistry({ token: 'secret' });
  const dir = tempDir();
  const file = join(dir, 'speed.json');
  writeFileSync(file, JSON.stringify(campaignDocument()));
  const says = async (args: string[], words: string, input?: string) => {
    const { code, err } = await campaigns(args, input);
    expect([code, err]).toEqual([1, expect.stringContaining(words)]);
    expect(err).not.toMatch(/^\s+at /m);
  };
  await says(['publish', join(dir, 'none.json')], 'error FILE_NOT_FOUND: ');
  const broken = JSON.stringify(campaignDocument({ signals: [] }));
  await says(['publish', '-'], 'error CAMPAIGN_INVALID: Not a usable campaign: campaign.signals', broken);
  await says(['publish', file, '--registry', 'http://127.0.0.1:1'], 'error HTTP_UNREACHABLE: ');
  await says(['publish', file, '--registry', url], '401 UNAUTHORIZED: This needs the header');
  const token = join(dir, 'token');
  writeFileSync(token, 'secret\n');
  const at = ['--registry', url, '--token-file', token];
  await says(['show', 'none', ...at], '404 CAMPAIGN_UNKNOWN: There is no campaign none');
});
