import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { link, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { manifestKey, narInfoKey, stagedNarsKey } from '../core/cache/layout.ts';
import { formatManifest } from '../core/cache/manifest.ts';
import { newUploadId } from '../core/cache/upload-id.ts';
import { encodeBase32 } from '../core/nix/base32.ts';
import { fingerprint } from '../core/nix/fingerprint.ts';
import { formatSha256 } from '../core/nix/hash.ts';
import { parseSecretKey, signFingerprint } from '../core/nix/keys.ts';
import { formatNarInfo } from '../core/nix/narinfo.ts';
import type { PathInfo } from '../core/nix/path-info.ts';
import { defaultStoreDir, storeHash } from '../core/nix/store-path.ts';
import { measure } from './measure.ts';
import type { Command, Cost } from './measure.ts';

const run = promisify(execFile);

/** The bundle of the package, which users run. */
const main = join(import.meta.dirname, '../dist/niche.cjs');
const build = join(import.meta.dirname, '../scripts/build.ts');

/** Where `niche init` keeps the key of a cache named `bench`, in the home folder. */
const keyFile = '.config/niche/keys/bench-1.secret';

/** A NAR in a file, and its true claim. */
export interface NarFile {
  readonly file: string;
  readonly info: PathInfo;
}

/** A directory cache into which batches are put to measure its publisher. */
export interface StagedCache {
  /** Writes a NAR to a file. */
  writeNarFile(
    name: string,
    nar: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    references: readonly string[],
  ): Promise<NarFile>;
  /**
   * Stages each NAR as a path of a batch of its own, publishes them and removes them.
   *
   * @returns the cost of the publisher's process
   * @throws Error when one is not published
   */
  publish(nars: readonly NarFile[]): Promise<Cost>;
  close(): Promise<void>;
  /** For other files of the benchmark. */
  readonly folder: string;
}

/** @param references store paths that the cache has */
export async function openStagedCache(references: readonly string[]): Promise<StagedCache> {
  await run(process.execPath, [build]);
  const folder = await mkdtemp(join(tmpdir(), 'niche-bench-'));
  const cacheFolder = join(folder, 'cache');
  const niche = (...args: string[]): Command => ({
    command: process.execPath,
    args: [main, ...args],
    // As in infra/worker/niche-worker.service.
    env: { HOME: folder, NODE_OPTIONS: '--max-semi-space-size=8' },
    cwd: folder,
  });

  async function writeReferences(): Promise<void> {
    const secretKey = parseSecretKey(await readFile(join(folder, keyFile), 'utf8'));
    const hash = formatSha256(createHash('sha256').digest());
    const nar = { url: 'nar/0.nar', compression: 'none', fileHash: hash, fileSize: 1, extra: [] };
    for (const path of references) {
      const info = { ...claim(path), ...nar, narHash: hash, narSize: 1 };
      const signatures = [signFingerprint(fingerprint(info), secretKey)];
      const text = formatNarInfo({ ...info, signatures });
      await writeFile(join(cacheFolder, narInfoKey(storeHash(path))), text);
    }
  }

  async function stage({ file, info }: NarFile): Promise<string> {
    const id = { upload: newUploadId(), batch: 0 };
    const path = `${defaultStoreDir}/${encodeBase32(randomBytes(20))}-path`;
    const staged = join(cacheFolder, stagedNarsKey(id, 'none'));
    await mkdir(dirname(staged), { recursive: true });
    await link(file, staged);
    const manifest = formatManifest({ encoding: 'none', paths: [{ ...info, path }] });
    await writeFile(join(cacheFolder, manifestKey(id)), manifest);
    return path;
  }

  await mkdir(cacheFolder);
  const flags = ['--name', 'bench', '--no-upstream', '--store-dir', defaultStoreDir];
  const init = niche('init', cacheFolder, ...flags);
  await run(init.command, init.args, init);
  await writeReferences();

  return {
    folder,
    async writeNarFile(name, nar, claimed) {
      const file = join(folder, `${name}.nar`);
      const hash = createHash('sha256');
      const written = await open(file, 'w');
      let narSize = 0;
      for await (const chunk of nar) {
        hash.update(chunk);
        narSize += chunk.length;
        await written.write(chunk);
      }
      await written.close();
      const narHash = formatSha256(hash.digest());
      return { file, info: { ...claim(''), narHash, narSize, references: claimed } };
    },
    async publish(nars) {
      const paths: string[] = [];
      for (const nar of nars) paths.push(await stage(nar));
      // Pays for the writes of the former run.
      await run('sync');
      const cost = await measure(niche('worker', '--once', cacheFolder));
      for (const path of paths) {
        await rm(join(cacheFolder, narInfoKey(storeHash(path))));
      }
      await rm(join(cacheFolder, 'nar'), { recursive: true });
      return cost;
    },
    close: () => rm(folder, { recursive: true }),
  };
}

function claim(path: string): PathInfo {
  return {
    path,
    narHash: '',
    narSize: 0,
    references: [],
    deriver: null,
    ca: null,
    signatures: [],
  };
}
