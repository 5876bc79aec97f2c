import { Option, type Command } from 'commander';
import { CardanError, readGivenFile } from '@cardan/shared';
import { httpGetAs, type HttpGet } from './http-get.ts';

/** How the car says who it is at the registry, as options of a command line. Secrets come as files, never as arguments. */
export interface RegistryFiles {
  registryCa?: string;
  registryCert?: string;
  registryKey?: string;
  registryTokenFile?: string;
}

/** Adds the options of `RegistryFiles`; each can also come from the environment. */
export function registryOptions(command: Command): Command {
  const option = (flags: string, text: string, env: string) => new Option(flags, text).env(env);
  return command
    .addOption(
      option('--registry-ca <file>', 'certificate authority of the registry (PEM)', 'CARDAN_REGISTRY_CA'),
    )
    .addOption(
      option(
        '--registry-cert <file>',
        "this car's certificate at the registry (PEM)",
        'CARDAN_REGISTRY_CERT',
      ),
    )
    .addOption(option('--registry-key <file>', 'its key (PEM)', 'CARDAN_REGISTRY_KEY'))
    .addOption(
      option('--registry-token-file <file>', "file with this car's token", 'CARDAN_REGISTRY_TOKEN_FILE'),
    );
}

/**
 * How to ask this registry. Certificate and token are shown to it alone, never where it sends the car to.
 * Throws USAGE, FILE_NOT_FOUND.
 */
export function registryGet(registryUrl: string, files: RegistryFiles): HttpGet {
  const { registryCa, registryCert, registryKey, registryTokenFile } = files;
  if ((registryCert === undefined) !== (registryKey === undefined))
    throw new CardanError('USAGE', '--registry-cert and --registry-key belong together.');
  if (!URL.canParse(registryUrl))
    throw new CardanError(
      'USAGE',
      `--registry takes an address such as https://registry:8090, not ${registryUrl}.`,
    );
  return httpGetAs({
    origin: new URL(registryUrl).origin,
    ...(registryCa === undefined ? {} : { ca: readGivenFile(registryCa) }),
    ...(registryCert === undefined ? {} : { cert: readGivenFile(registryCert) }),
    ...(registryKey === undefined ? {} : { key: readGivenFile(registryKey) }),
    ...(registryTokenFile === undefined
      ? {}
      : { token: readGivenFile(registryTokenFile).toString('utf8').trim() }),
  });
}
