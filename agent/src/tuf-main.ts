import { Command } from 'commander';
import { runCommand } from '@cardan/shared';
import { AGENT_VERSION } from './config.ts';
import { tufCommand } from './updater/tuf-command.ts';

// `cardan-agent tuf` without the rest of the agent: conformance tests start it some hundred times.
const program = new Command('cardan-agent').version(AGENT_VERSION);
tufCommand(program);
await runCommand(program, process.argv);
