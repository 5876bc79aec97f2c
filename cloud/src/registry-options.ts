import { Option, type Command } from 'commander';
import { CLOUD_DEFAULTS } from './config.ts';
import { RegistryClient } from './registry-client.ts';
import { readToken } from './token-file.ts';

/** Where the registry is, and who asks. */
export interface RegistryOptions {
  registry: string;
  tokenFile?: string;
}

/** Adds the options of `RegistryOptions`. When `optional` there is no registry unless one is given. */
export function registryOptions(command: Command, { optional = false } = {}): Command {
  const registry = new Option('--registry <url>', 'the registry');
  return command
    .addOption(
      optional
        ? registry
        : registry.env('CARDAN_REGISTRY').default(`http://127.0.0.1:${CLOUD_DEFAULTS.registryPort}`),
    )
    .addOption(
      new Option('--token-file <file>', 'file with the token that the registry takes').env(
        'CARDAN_TOKEN_FILE',
      ),
    );
}

/** Throws FILE_NOT_FOUND when the token cannot be read. */
export function registryClient({ registry, tokenFile }: RegistryOptions): RegistryClient {
  return new RegistryClient(registry, tokenFile === undefined ? undefined : readToken(tokenFile));
}
