import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Environment } from '../../../cli/process/environment.ts';
import type { NixConfigEntry } from '../../../cli/nix/nix-config.ts';
import { openNix, type Nix } from '../../../cli/nix/nix.ts';
import type { BuiltPath } from '../../../cli/watch/source.ts';
import { watchBuild } from '../../../cli/watch/watch.ts';
import type { NixDaemon } from '../../support/lab/nix-daemon.ts';
import { graph, type GraphPart } from '../../support/lab/nix-graph.ts';
import type { Executed, NixLab } from '../../support/lab/nix-lab.ts';

export interface Noted extends Executed {
  readonly nix: Nix;
  readonly noticed: readonly BuiltPath[];
  readonly warnings: readonly string[];
  /** How often niche evaluated the command's derivations, while it ran and after it. */
  readonly evaluations: { readonly during: number; readonly after: number };
  /** The names of the detected paths, sorted, without their hashes. */
  readonly names: readonly string[];
  readonly namesFrom: (source: BuiltPath['source']) => readonly string[];
}

export interface NoteOptions {
  /** The daemon to connect to. */
  readonly daemon?: NixDaemon;
  readonly env?: Environment;
  readonly config?: readonly NixConfigEntry[];
  /** The standard input of the command. @default empty */
  readonly input?: string;
}

/** Runs a command in a lab like `niche build` and `niche exec`, and collects the detected paths. */
export async function note(
  lab: NixLab,
  command: string,
  args: readonly string[],
  { daemon, env: more = {}, config = [], input = '' }: NoteOptions = {},
): Promise<Noted> {
  const env = { ...(daemon ?? lab).env, ...more };
  const opened = await openNix({ env, cwd: lab.work });
  const evaluations = { during: 0, after: 0 };
  let moment: keyof typeof evaluations = 'during';
  const nix: Nix = {
    ...opened,
    ask: (tool, asked, options) => {
      const evaluates = tool === 'nix-instantiate' || asked.includes('--derivation');
      if (evaluates) evaluations[moment]++;
      return opened.ask(tool, asked, options);
    },
  };
  const noticed: BuiltPath[] = [];
  const warnings: string[] = [];
  const onWarning = (message: string): void => {
    warnings.push(message);
  };
  const noticing = await watchBuild({ nix, env, command, args, config, onWarning });
  try {
    const reading = (async () => {
      for await (const path of noticing.paths) noticed.push(path);
    })();
    const executed = await lab.run(command, noticing.args, { env: definedOf(noticing.env), input });
    moment = 'after';
    noticing.commandEnded(executed.status ?? 1);
    await reading;
    const namesOf = (paths: readonly BuiltPath[]): readonly string[] =>
      paths.map(({ path }) => nameOf(path)).sort();
    return {
      ...executed,
      nix,
      noticed,
      warnings,
      evaluations,
      names: namesOf(noticed),
      namesFrom: (source) => namesOf(noticed.filter((path) => path.source === source)),
    };
  } finally {
    await noticing.close();
  }
}

/** Writes the lab's `default.nix`. */
export async function writeGraph(
  lab: NixLab,
  parts: readonly GraphPart[],
  salt = '',
): Promise<void> {
  await writeFile(join(lab.work, 'default.nix'), graph(parts, salt));
}

export function nameOf(storePath: string): string {
  return storePath.replace(/^.*\/[^/-]*-/u, '');
}

function definedOf(env: Environment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
