import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

/** There is no container engine where this runs, so compose.yaml is checked against what the programs know. */
const OPS = resolve(import.meta.dirname, '..');

interface Service {
  image: string;
  command?: string[];
  environment?: Record<string, string>;
  volumes?: string[];
  ports?: string[];
  secrets?: string[];
  depends_on?: Record<string, unknown>;
  healthcheck?: { test: string[] };
}
interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  secrets: Record<string, { file: string }>;
}
const { workspaces: WORKSPACES } = JSON.parse(readFileSync(resolve(OPS, '../package.json'), 'utf8')) as {
  workspaces: string[];
};
const compose = parse(readFileSync(join(OPS, 'compose.yaml'), 'utf8'), { merge: true }) as Compose;
const services = Object.entries(compose.services);
const ours = services.filter(([, { command }]) => command?.[0]?.startsWith('cardan-'));

function help(program: string, ...args: string[]): string {
  const workspace = { 'cardan-bridge': 'bridge', 'cardan-cloud': 'cloud', 'cardan-sim': 'simulators' }[
    program
  ]!;
  const bin = resolve(OPS, '..', workspace, 'bin', `${program}.js`);
  return execFileSync(process.execPath, [bin, ...args, '--help'], { encoding: 'utf8' }).replaceAll(
    /\s+/g,
    ' ',
  );
}

describe('compose.yaml', () => {
  it('has Kafka, Mosquitto, all services, Prometheus and Grafana', () => {
    expect(services.map(([name]) => name).sort()).toEqual(
      [
        'kafka',
        'mosquitto',
        'bridge',
        'registry',
        'trainer',
        'predictor',
        'monitor',
        'fleet',
        'prometheus',
        'grafana',
      ].sort(),
    );
  });

  it.each(ours)('starts %s with options that it has', (_, { command = [] }) => {
    const [program, first] = command as [string, string];
    const text = help(program, ...(program === 'cardan-sim' ? [first] : []));
    if (program === 'cardan-cloud') expect(text).toContain(` ${first} `);
    const flags = command.filter((word) => word.startsWith('--'));
    for (const flag of flags) expect(text).toContain(`${flag} <`);
  });

  it('sets only variables that a program reads', () => {
    const known = ['cardan-bridge', 'cardan-cloud'].map((program) => help(program)).join(' ');
    for (const [, { environment = {} }] of ours)
      for (const name of Object.keys(environment)) expect(known).toContain(`env: ${name})`);
  });

  it('names images by a version, and files, services, volumes and secrets that are there', () => {
    for (const [, { image, volumes = [], secrets = [], depends_on = {} }] of services) {
      expect(image).toMatch(/:v?\d+\.\d+/);
      for (const volume of volumes) {
        const source = volume.split(':')[0]!;
        if (source.startsWith('.')) expect(existsSync(join(OPS, source))).toBe(true);
        else expect(compose.volumes).toHaveProperty([source]);
      }
      for (const secret of secrets) expect(compose.secrets).toHaveProperty([secret]);
      for (const name of Object.keys(depends_on)) expect(compose.services).toHaveProperty([name]);
    }
  });

  it('asks every service that listens whether it is well, on the port where it does', () => {
    const listening = services.filter(
      ([, { ports = [], command = [] }]) => ports.length > 0 || command.includes('--host'),
    );
    expect(listening.length).toBeGreaterThan(6);
    for (const [name, { healthcheck, command = [] }] of listening) {
      expect(healthcheck, name).toBeDefined();
      const port = command[command.findIndex((word) => word.endsWith('port')) + 1];
      if (command.includes('--host')) expect(healthcheck!.test.join()).toContain(`:${port}/`);
    }
  });

  it('publishes ports on loopback only, and holds no secret', () => {
    for (const [, { ports = [] }] of services)
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    for (const { file } of Object.values(compose.secrets)) expect(file).toMatch(/^\.\/secrets\//);
    expect(readFileSync(resolve(OPS, '../.gitignore'), 'utf8')).toContain('ops/secrets/');
  });

  it('has Prometheus look where the bridge serves its metrics, and Grafana show metrics that there are', () => {
    interface Scrape {
      scrape_configs: { dns_sd_configs: { names: string[]; port: number }[] }[];
    }
    const { scrape_configs } = parse(readFileSync(join(OPS, 'prometheus/prometheus.yml'), 'utf8')) as Scrape;
    for (const { names, port } of scrape_configs.flatMap(({ dns_sd_configs }) => dns_sd_configs))
      for (const name of names) expect(compose.services[name]?.command).toContain(String(port));
    const source = readFileSync(resolve(OPS, '../bridge/src/bridge-metrics.ts'), 'utf8');
    const dashboard = readFileSync(join(OPS, 'grafana/dashboards/bridge.json'), 'utf8');
    for (const [name] of dashboard.matchAll(/cardan_\w+/g))
      expect(source).toContain(name.replace(/_bucket$/, ''));
  });
});

describe('Dockerfile', () => {
  const dockerfile = readFileSync(join(OPS, 'Dockerfile'), 'utf8');

  it('has every command that a container runs before npm links it', () => {
    const before = dockerfile.slice(0, dockerfile.indexOf('npm ci'));
    for (const workspace of WORKSPACES) {
      expect(before).toContain(`COPY ${workspace}/package.json ${workspace}/\n`);
      // npm links only what is there.
      if (existsSync(resolve(OPS, '..', workspace, 'bin')))
        expect(before).toContain(`COPY ${workspace}/bin ${workspace}/bin\n`);
    }
  });

  it('has all workspaces, on a Node by its version', () => {
    for (const workspace of WORKSPACES) expect(dockerfile).toContain(`\nCOPY ${workspace} ${workspace}\n`);
    for (const [, image] of dockerfile.matchAll(/^FROM (\S+)/gm))
      expect(image).toMatch(/^node:\d+\.\d+\.\d+-/);
  });
});
