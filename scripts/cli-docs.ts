/** Writes `docs/cli.md`, the reference of the command line, from the command line itself. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Command } from 'commander';

import { createProgram } from '../cli/main.ts';
import packageJson from '../package.json' with { type: 'json' };

export const cliDocsFile = join(import.meta.dirname, '../docs/cli.md');

const columns = 100;

const preface = `# Command line

What \`niche --help\` and \`niche <command> --help\` print; \`npm run docs\` writes this file anew.

Commands take the cache as \`-u URL\` or from the environment variable \`NICHE_CACHE_URL\`. A URL is
the cache's storage (\`file:///srv/cache\`, or a path that begins with \`/\` or \`./\`) or, for
commands that only read, where it is served (\`https://cache.example.org\`).

What was asked for goes to standard output, all else to standard error. Exit status 0 is success, 1
a failure that a sentence explains; \`build\` and \`exec\` pass on the status of the command that they
wrap if it failed. 75 means that something staged is not published yet, 76 that something was
rejected, could not be staged, or is wrong.

| variable                | meaning                                                            |
| ----------------------- | ------------------------------------------------------------------ |
| \`NICHE_CACHE_URL\`       | the cache, where no \`-u\` is given                                  |
| \`NICHE_SECRET_KEY_FILE\` | the signing key, where no \`--secret-key-file\` is given             |
| \`NICHE_DEBUG\`           | if not empty: the most verbose log, and stack traces with errors     |
`;

/** The whole text of `docs/cli.md`. */
export function cliDocs(): string {
  let printed = '';
  const stream = {
    write(text: string) {
      printed += text;
    },
    isTty: false,
    columns,
  };
  const program = createProgram({
    env: {},
    secrets: {},
    cwd: '/',
    version: packageJson.version,
    stdout: stream,
    stderr: stream,
    stdin: process.stdin,
    setExitStatus: () => undefined,
  });
  const section = (command: Command, path: readonly string[]): string => {
    command.configureOutput({ getOutHelpWidth: () => columns, getOutHasColors: () => false });
    printed = '';
    command.outputHelp();
    const level = '#'.repeat(path.length + 1);
    const own = `${level} ${path.join(' ')}\n\n\`\`\`\n${printed.trim()}\n\`\`\`\n`;
    return [own, ...command.commands.map((sub) => section(sub, [...path, sub.name()]))].join('\n');
  };
  return `${preface}\n${section(program, ['niche'])}`;
}

if (import.meta.main) await writeFile(cliDocsFile, cliDocs());
