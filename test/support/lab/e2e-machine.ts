import assert from 'node:assert/strict';
import { appendFile, chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';

import { runNiche, type NicheRun, type NicheOptions } from './niche-process.ts';
import { graph, type GraphPart } from './nix-graph.ts';
import { createNixLab, type NixLab, type NixLabOptions, type NixSettings } from './nix-lab.ts';

/** A machine with Nix and niche. It is removed after the test. */
export interface Machine extends NixLab {
  /** Runs niche in `work`, in this machine's environment. */
  niche(args: readonly string[], options?: NicheOptions): Promise<NicheRun>;
  /** Like {@link niche}, but asserts the exit status 0. */
  nicheDoes(args: readonly string[], options?: NicheOptions): Promise<NicheRun>;
  /** Writes `default.nix`. */
  writeGraph(parts: readonly GraphPart[], salt?: string): Promise<void>;
  /** Creates a cache in a directory of this machine. */
  makeCache(name?: string, args?: readonly string[]): Promise<DirectoryCache>;
}

/** A cache that `niche init` created. */
export interface DirectoryCache {
  readonly directory: string;
  readonly url: string;
  readonly publicKey: string;
  readonly secretKeyFile: string;
  /** The names of the published paths, sorted, without their hashes. */
  names(): Promise<string[]>;
  /** Every published store path. */
  paths(): Promise<string[]>;
  /** Every file of the cache with its contents, except those that Nix creates when it reads. */
  snapshot(): Promise<ReadonlyMap<string, string>>;
}

export async function createMachine(t: TestContext, options: NixLabOptions): Promise<Machine> {
  const lab = await createNixLab(options);
  t.after(() => lab.close());
  const niche: Machine['niche'] = (args, more) =>
    runNiche(args, { cwd: lab.work, ...more, env: { ...lab.env, ...more?.env } });
  const nicheDoes: Machine['nicheDoes'] = async (args, more) => {
    const ran = await niche(args, more);
    assert.equal(ran.status, 0, `niche ${args.join(' ')}\n${ran.stdout}\n${ran.stderr}`);
    return ran;
  };
  return {
    ...lab,
    niche,
    nicheDoes,
    writeGraph: (parts, salt) => writeFile(join(lab.work, 'default.nix'), graph(parts, salt)),
    makeCache: async (name = 'acme', args = []) => {
      const directory = join(lab.folder, `cache-${name}`);
      const url = pathToFileURL(directory).href;
      const made = await nicheDoes(['init', url, '--name', name, '--json', ...args]);
      const { publicKey, secretKeyFile } = JSON.parse(made.stdout) as DirectoryCache;
      return { url, publicKey, secretKeyFile, ...cacheIn(directory) };
    },
  };
}

/** Returns the paths of the cache in `directory` from its files. */
export function cacheIn(
  directory: string,
): Pick<DirectoryCache, 'directory' | 'names' | 'paths' | 'snapshot'> {
  const paths = async (): Promise<string[]> => {
    const narInfos = (await readdir(directory)).filter((name) => name.endsWith('.narinfo'));
    const texts = await Promise.all(
      narInfos.map((name) => readFile(join(directory, name), 'utf8')),
    );
    return texts.map((text) => /^StorePath: (.+)$/m.exec(text)?.[1] ?? '').sort();
  };
  return {
    directory,
    paths,
    names: async () => (await paths()).map(nameOf).sort(),
    snapshot: async () => {
      const entries = await readdir(directory, { recursive: true, withFileTypes: true });
      const files = entries
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name));
      const read = files.map(async (file) => [file, await readFile(file, 'latin1')] as const);
      return new Map(await Promise.all(read));
    },
  };
}

/** Returns the part of a store path after the hash. */
export function nameOf(storePath: string): string {
  return storePath.replace(/^.*\/[0-9a-z]{32}-/u, '');
}

/**
 * A folder at the same path for the builders of every machine of a test. They record their
 * builds there, and wait there for the test.
 */
export interface Yard {
  readonly folder: string;
  /** Settings for the nix.conf of the machines. */
  readonly settings: NixSettings;
  /** Shell for a builder: leaves the trace `name`. */
  trace(name: string): string;
  /** Shell for a builder: waits until `name` is opened. */
  wait(name: string): string;
  open(name: string): Promise<void>;
  /** The traces so far, oldest first. */
  traces(): Promise<string[]>;
}

export async function createYard(t: TestContext): Promise<Yard> {
  const folder = await mkdtemp(join(tmpdir(), 'niche-yard-'));
  // Builders may run as another user.
  await chmod(folder, 0o777);
  t.after(() => rm(folder, { recursive: true, force: true }));
  const traceFile = join(folder, 'traces');
  await appendFile(traceFile, '');
  await chmod(traceFile, 0o666);
  return {
    folder,
    settings: { 'sandbox-paths': `/bin /usr /lib /lib64? ${folder}` },
    trace: (name) => `echo ${name} >> ${traceFile}`,
    wait: (name) => `while [ ! -e ${join(folder, name)} ]; do sleep 0.1; done`,
    open: (name) => writeFile(join(folder, name), ''),
    traces: async () => (await readFile(traceFile, 'utf8')).split('\n').slice(0, -1),
  };
}

/** Skips the test if labs of this user cannot share store paths. */
export function skipUnlessChroot(t: TestContext, machine: NixLab): boolean {
  if (machine.kind === 'chroot') return false;
  t.skip('this user cannot build below /nix/store, and no two machines share another folder');
  return true;
}
