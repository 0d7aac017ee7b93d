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
  /** Makes a cache; `directory` is `name` in the lab's folder unless given. */
  cache(
    name: string,
    options?: { directory?: string; args?: readonly string[] },
  ): Promise<LabCache>;
  run(args: readonly string[], options?: NicheOptions): Promise<NicheRun>;
  start(args: readonly string[], options?: NicheOptions): RunningNiche;
  /** The store path of a part of the graph, built if need be. */
  build(part: string): Promise<string>;
  /** Processes that were started in this lab and still run. */
  processes(): number[];
  close(): Promise<void>;
}

export interface LabCache {
  readonly directory: string;
  readonly url: string;
  readonly secretKeyFile: string;
  /** In Nix's own form. */
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

/** Told by their environment, which names the lab's folder. */
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

/** Waits until a file whose path in `directory` matches is there, or `niche` has ended. */
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

/** A folder for whatever a test keeps in the lab. */
export function labFolder(lab: NicheLab, name: string): string {
  const folder = join(lab.nix.folder, name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Fails where a message has a stack trace, or tells a secret key. */
export function assertDiscreet(run: NicheRun, ...secretKeys: readonly string[]): void {
  const said = run.stdout + run.stderr;
  assert.doesNotMatch(said, /^\s+at .*\d+:\d+\)?$/m);
  for (const secretKey of secretKeys) {
    const [, base64 = ''] = secretKey.split(':');
    assert.ok(base64.length > 40 && !said.includes(base64), 'the secret key was printed');
    assert.ok(!said.includes(base64.slice(0, 32)), 'half of the secret key was printed');
  }
}
