import { existsSync } from 'node:fs';
import { LOG_TOPICS } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startMonitor, type Monitor } from '../../src/monitor/server.ts';
import {
  anomaly,
  event,
  NOON,
  prediction,
  published,
  reported,
  SIGNALS,
  telemetry,
  temporaryLog,
} from './fixtures.ts';

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
);
const wanted = CHROMIUM !== undefined || Boolean(process.env.CI);
if (!wanted) console.log('Skipping the test of the page: no Chromium in /usr/bin.');

describe.runIf(wanted)('the page in a browser', () => {
  let log: EventLog;
  let remove: () => Promise<void>;
  let monitor: Monitor;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];
  const foreign: string[] = [];

  beforeAll(async () => {
    ({ log, remove } = await temporaryLog());
    for (const [topic, config] of Object.entries(LOG_TOPICS)) await log.createTopic(topic, config);
    monitor = await startMonitor({ log, host: '127.0.0.1', port: 0 });
    browser = await chromium.launch({
      ...(CHROMIUM === undefined ? {} : { executablePath: CHROMIUM }),
      args: [
        ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync'],
        ...['--disable-background-networking', '--disable-component-update'],
      ],
    });
    page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: 'dark' });
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error.stack)));
    page.on('request', (request) => {
      if (!request.url().startsWith(monitor.url)) foreign.push(request.url());
    });
  }, 60_000);

  afterAll(async () => {
    await browser?.close();
    await monitor?.close();
    await remove?.();
  });

  it('sees cars appear, an anomaly arrive, and asks for a training', async () => {
    await page.goto(monitor.url);
    await page.getByText('Waiting for the first car').waitFor();

    await log.append('signal-sets', [event(SIGNALS.id, 'io.cardan.signal-set', SIGNALS)]);
    await log.append('models', published('1'));
    for (const vehicle of ['car-1', 'car-2', '<img src=x onerror=alert(1)>']) {
      const scores = Array.from({ length: 60 }, (_, i) => 1 + Math.sin(i / 5));
      await log.append('telemetry', [telemetry({ vehicle, scores, version: '1' })]);
      await log.append('predictions', [prediction({ vehicle, scores })]);
      await log.append('vehicle-events', [event(vehicle, 'io.cardan.vehicle.reported', reported('1'))]);
    }
    await page.locator('.tile[data-state="healthy"]').nth(2).waitFor();
    // A name is text, whatever it says.
    expect(await page.locator('.tile b').allTextContents()).toContain('<img src=x onerror=alert(1)>');
    await page.locator('#models td', { hasText: 'v1' }).waitFor();

    await log.append('vehicle-events', [
      event('car-2', 'io.cardan.vehicle.anomaly', anomaly('raised', 'x'), { time: NOON + 30_000 }),
    ]);
    const entry = page.locator('.anomaly', { hasText: 'car-2' });
    await entry.waitFor();
    expect(await entry.textContent()).toMatch(/raised.*Tire pressure · left80 %.*2\.00× the threshold/);
    // The car of the newest anomaly is shown by itself, its blamed signal first.
    await page.locator('#car-head', { hasText: 'car-2' }).waitFor();
    await page.locator('.tile[data-id="car-2"][data-state="alarm"][aria-pressed="true"]').waitFor();
    const first = page.locator('.multiples figure').and(page.locator('[style*="order: 0"]'));
    await first.locator('.badge', { hasText: '80 %' }).waitFor();
    expect(await first.getAttribute('title')).toBe('Vehicle.Chassis.Axle.Row1.Wheel.Left.Tire.Pressure');
    expect(await page.locator('#car canvas').count()).toBe(1 + SIGNALS.signals.length);
    expect(await page.locator('#alarm-count').textContent()).toBe('1');

    await page.locator('.tile[data-id="car-2"]').focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('Enter');
    await page.locator('#car-head', { hasText: 'car-1' }).waitFor();

    await page.getByText('Nothing learned yet').waitFor();
    await log.append('clusters', [
      event(SIGNALS.id, 'io.cardan.clusters.learned', {
        signalSet: SIGNALS.id,
        states: [
          { center: [0, 230, 231], windows: 30 },
          { center: [104.2, 236, 237], windows: 10 },
        ],
        clusters: [
          { shares: [0.9, 0.1], vehicles: 2 },
          { shares: [0.3, 0.7], vehicles: 1 },
        ],
      }),
    ]);
    await page.locator('#clusters td', { hasText: '75 %' }).waitFor();
    expect(await page.locator('#clusters th').allTextContents()).toEqual(
      expect.arrayContaining(['Speed', 'Cluster 1: 2 cars', 'Cluster 2: 1 car']),
    );
    expect(await page.locator('#clusters tr', { hasText: '104' }).textContent()).toContain('70 %');

    await page.locator('#train').click();
    await page.locator('#training-state', { hasText: 'requested' }).waitFor();

    await page.locator('[data-theme-toggle]').click();
    expect(await page.locator('html').getAttribute('data-theme')).toBe('light');
    await page.setViewportSize({ width: 360, height: 800 });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360);
    expect({ complaints, foreign }).toEqual({ complaints: [], foreign: [] });
  }, 60_000);

  it('says that the connection is lost, and finds back by itself', async () => {
    const { port } = new URL(monitor.url);
    await monitor.close();
    await page.locator('#live', { hasText: 'Reconnecting' }).waitFor();
    await page.locator('#banner', { hasText: 'does not answer' }).waitFor();
    monitor = await startMonitor({ log, host: '127.0.0.1', port: Number(port) });
    await page.locator('#live', { hasText: 'Live' }).waitFor();
    await page.locator('.tile[data-id="car-2"][data-state="alarm"]').waitFor();
  }, 60_000);
});
