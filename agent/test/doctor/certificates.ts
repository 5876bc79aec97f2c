import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Files in PEM format. */
export interface KeyPair {
  cert: string;
  key: string;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** A certificate authority of its own. Needs the openssl program. */
export function makeAuthority(dir: string, name: string): KeyPair {
  const pair = { cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) };
  openssl(
    ...[
      'req',
      '-x509',
      ...KEY,
      '-keyout',
      pair.key,
      '-out',
      pair.cert,
      '-days',
      '60',
      '-subj',
      `/CN=${name}`,
    ],
    ...['-addext', 'basicConstraints=critical,CA:TRUE'],
  );
  return pair;
}

/** A certificate that the authority has signed; `days` below 0: one that has expired. */
export function makeCertificate(
  dir: string,
  authority: KeyPair,
  name: string,
  { cn, days = 50, extensions = '' }: { cn: string; days?: number; extensions?: string },
): KeyPair {
  const pair = { cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) };
  const [request, extensionFile] = [join(dir, `${name}.csr`), join(dir, `${name}.ext`)];
  writeFileSync(extensionFile, extensions);
  openssl('req', '-new', ...KEY, '-keyout', pair.key, '-out', request, '-subj', `/CN=${cn}`);
  openssl(
    ...['x509', '-req', '-in', request, '-CA', authority.cert, '-CAkey', authority.key, '-CAcreateserial'],
    ...['-days', String(days), '-extfile', extensionFile, '-out', pair.cert],
  );
  return pair;
}
