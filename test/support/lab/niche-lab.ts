import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { filesIn } from '../cache/check.ts';
import { runNiche, spawnNiche } from './niche-process.ts';
import type { NicheOptions, NicheRun, RunningNiche } from './niche-process.ts';
import { graph } from './nix-graph.ts';
import type { GraphPart } from './nix-graph.ts';
import { createNixLab } from './nix-lab.ts';
import type { NixLab, NixVersion } from './nix-lab.ts';

/** A machine with Nix, niche, and caches in directories. */
export interface NicheLab {
  readonly nix: NixLab;
  /** Creates a cache. @default directory `name` in the folder of the lab */
  cache(
    name: string,
    options?: { directory?: string; args?: readonly string[] },
  ): Promise<LabCache>;
  run(args: readonly string[], options?: NicheOptions): Promise<NicheRun>;
  start(args: readonly string[], options?: NicheOptions): RunningNiche;
  /** Returns the store path of a part of the graph, and builds it if necessary. */
  build(part: string): Promise<string>;
  /** Running processes of this lab. */
  processes(): number[];
  close(): Promise<void>;
}

export interface LabCache {
  readonly directory: string;
  readonly url: string;
  readonly secretKeyFile: string;
  /** In Nix's format. */
  readonly secretKey: string;
}

export async function createNicheLab(
  version: NixVersion,
  parts: readonly GraphPart[],
): Promise<NicheLab> {
  const nix = await createNixLab({ nix: version });
  await writeFile(join(nix.work, 'default.nix'), graph(parts));
  const complete = (options: NicheOptions = {}): NicheOptions => ({
    cwd: nix.work,
    ...options,
    env: { ...nix.env, ...options.env },
  });
  const run: NicheLab['run'] = (args, options) => runNiche(args, complete(options));
  return {
    nix,
    run,
    start: (args, options) => spawnNiche(args, complete(options)),
    async cache(name, { directory = join(nix.folder, name), args = [] } = {}) {
      const url = `file://${directory}`;
      const made = await run(['init', url, '--name', name, ...args]);
      assert.equal(made.status, 0, made.stderr);
      const secretKeyFile = join(nix.env['XDG_CONFIG_HOME']!, `niche/keys/${name}-1.secret`);
      const secretKey = (await readFile(secretKeyFile, 'utf8')).trim();
      return { directory, url, secretKeyFile, secretKey };
    },
    build: (part) => nix.output('nix-build', ['--no-out-link', '-A', part]),
    processes: () => processesOf(nix.folder),
    close: () => nix.close(),
  };
}

/** Finds them by their environment, which contains the folder of the lab. */
function processesOf(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`${folder}/`);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Waits until `directory` has a file with a matching path, or `niche` exits. */
export async function untilThere(
  directory: string,
  pattern: RegExp,
  niche: RunningNiche,
): Promise<void> {
  const ended = new AbortController();
  const stop = (): void => {
    ended.abort();
  };
  niche.process.once('exit', stop);
  while (!ended.signal.aborted) {
    if ((await filesIn(directory)).some((file) => pattern.test(file))) return;
    await sleep(2);
  }
}

/** Returns a folder in the lab for files of a test. */
export function labFolder(lab: NicheLab, name: string): string {
  const folder = join(lab.nix.folder, name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Asserts that a message contains no stack trace and no secret key. */
export function assertDiscreet(run: NicheRun, ...secretKeys: readonly string[]): void {
  const said = run.stdout + run.stderr;
  assert.doesNotMatch(said, /^\s+at .*\d+:\d+\)?$/m);
  for (const secretKey of secretKeys) {
    const [, base64 = ''] = secretKey.split(':');
    assert.ok(base64.length > 40 && !said.includes(base64), 'the secret key was printed');
    assert.ok(!said.includes(base64.slice(0, 32)), 'half of the secret key was printed');
  }
}
