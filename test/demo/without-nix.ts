import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { packTree } from '../../cli/nix/pack-tree.ts';
import { openCache } from '../../core/cache/open.ts';
import { createStager } from '../../core/cache/stage/stager.ts';
import { newUploadId } from '../../core/cache/upload-id.ts';
import { formatContentAddress } from '../../core/nix/content-address.ts';
import type { ContentAddress } from '../../core/nix/content-address.ts';
import { formatHash } from '../../core/nix/hash.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { computeCaPath } from '../../core/nix/store-path.ts';
import { run, say, serve, step } from './show.ts';
import type { Env } from './show.ts';

/** Runs the demo without Nix: niche packs a directory itself, as a content-addressed path. */
export async function demoWithoutNix(folder: string, signal: AbortSignal): Promise<void> {
  const cache = pathToFileURL(join(folder, 'cache')).href;
  const env: Env = { PATH: '/usr/bin:/bin', HOME: join(folder, 'home') };
  const at = { env, cwd: folder };
  await mkdir(join(folder, 'home'));

  await step('Make a cache: a directory (or a bucket) with a name and a signing key.', () => {
    const args = ['init', cache, '--name', 'demo', '--no-upstream'];
    return run({ command: 'niche', args, ...at }, signal);
  });

  const path = await step(
    'Stage a path. Without Nix, a directory becomes a store path named by the hash of its contents.',
    async () => {
      const info = await stageDirectory(await makeDirectory(folder), cache);
      say(`staged ${info.path} (${info.narSize} bytes)`);
      return info.path;
    },
  );

  await step(
    'Publish it. The publisher checks every claim, compresses the archive, signs it and makes it visible.',
    () => run({ command: 'niche', args: ['worker', cache, '--once'], ...at }, signal),
  );

  const server = await step(
    'Serve it. The cache is plain files, so any web server works. niche includes one.',
    () => serve(cache, at, signal),
  );
  try {
    await step('Verify it over HTTP: every byte, hash and signature.', () =>
      run({ command: 'niche', args: ['verify', '-u', server.url, path], ...at }, signal),
    );
  } finally {
    await server.stop();
  }
}

async function makeDirectory(folder: string): Promise<string> {
  const directory = join(folder, 'greeting');
  await mkdir(join(directory, 'bin'), { recursive: true });
  await writeFile(join(directory, 'bin/hello'), '#!/bin/sh\necho hello\n', { mode: 0o755 });
  await writeFile(join(directory, 'README'), 'Says hello.\n');
  return directory;
}

/** Stages a directory as Nix's `fixed:r:sha256` path of its contents. */
async function stageDirectory(directory: string, cacheUrl: string): Promise<PathInfo> {
  const { config, staging: bucket } = await openCache(cacheUrl);
  const hash = createHash('sha256');
  let narSize = 0;
  for await (const chunk of packTree(directory)) {
    hash.update(chunk);
    narSize += chunk.length;
  }
  const narHash = { algorithm: 'sha256', digest: hash.digest() } as const;
  const address: ContentAddress = { method: 'nar', hash: narHash };
  const info: PathInfo = {
    path: computeCaPath(address, 'greeting', [], false, config.storeDir),
    narHash: formatHash(narHash, 'base32'),
    narSize,
    references: [],
    deriver: null,
    ca: formatContentAddress(address),
    signatures: [],
  };
  const failures: unknown[] = [];
  const stager = createStager({
    bucket,
    upload: newUploadId(),
    storeDir: config.storeDir,
    onStaged: () => undefined,
    onFailed: (_, error) => failures.push(error),
  });
  stager.addPath({ info, openNar: () => packTree(directory) });
  await stager.finish();
  if (failures.length > 0) throw failures[0] as Error;
  return info;
}
