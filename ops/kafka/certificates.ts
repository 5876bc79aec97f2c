import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Files (PEM) for TLS between a client and a server on this machine. */
export interface Certificates {
  /** The authority that both trust. */
  ca: string;
  /** Certificate and key of a client; the name in it is `cardan-client`. */
  clientCert: string;
  clientKey: string;
  /** Key and certificate of the server (127.0.0.1, localhost) in one file, as Kafka wants it. */
  server: string;
}

/** Makes a certificate authority for a week, and what it signs, in `dir`. Needs the openssl program. */
export async function makeCertificates(dir: string): Promise<Certificates> {
  const file = (name: string) => join(dir, name);
  const openssl = async (...args: string[]) => {
    try {
      await run('openssl', args);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
      throw new Error('Certificates need openssl. On Debian and Ubuntu: apt install openssl', { cause });
    }
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const sign = async (name: string, subject: string, extensions: string) => {
    const [request, extensionFile] = [file(`${name}.csr`), file(`${name}.ext`)];
    writeFileSync(extensionFile, extensions);
    await openssl('req', '-new', ...key, '-keyout', file(`${name}.key`), '-out', request, '-subj', subject);
    await openssl(
      ...['x509', '-req', '-in', request, '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial'],
      ...['-days', '7', '-extfile', extensionFile, '-out', file(`${name}.pem`)],
    );
  };
  await openssl(
    ...['req', '-x509', ...key, '-keyout', file('ca.key'), '-out', file('ca.pem')],
    ...['-days', '7', '-subj', '/CN=Cardan test authority', '-addext', 'basicConstraints=critical,CA:TRUE'],
  );
  await sign('server', '/CN=localhost', 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  await sign('client', '/CN=cardan-client', 'extendedKeyUsage=clientAuth\n');
  writeFileSync(
    file('server-all.pem'),
    readFileSync(file('server.key'), 'utf8') + readFileSync(file('server.pem'), 'utf8'),
    { mode: 0o600 },
  );
  return {
    ca: file('ca.pem'),
    clientCert: file('client.pem'),
    clientKey: file('client.key'),
    server: file('server-all.pem'),
  };
}
