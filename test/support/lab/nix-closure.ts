import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createStager } from '../../../core/cache/stage/stager.ts';
import type { LocalPath } from '../../../core/cache/stage/local-path.ts';
import type { BatchId } from '../../../core/cache/layout.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import { parsePathInfos } from '../../../core/nix/path-info.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { graph } from './nix-graph.ts';
import type { GraphPart } from './nix-graph.ts';
import { createNixLab } from './nix-lab.ts';
import type { NixLab } from './nix-lab.ts';

/** Builds `wanted` of the graph with the Nix of the lab, and returns its closure. */
export async function buildClosure(
  lab: NixLab,
  parts: readonly GraphPart[],
  wanted: string,
): Promise<LocalPath[]> {
  await writeFile(join(lab.work, 'default.nix'), graph(parts));
  const built = await lab.output('nix-build', ['--no-out-link', '-A', wanted]);
  const json = await lab.output('nix', ['path-info', '--json', '--recursive', built]);
  const { valid } = parsePathInfos(JSON.parse(json), lab.storeDir);
  return valid.map(({ path, narHash, narSize, references, deriver, ca, signatures }) => ({
    info: { path, narHash, narSize, references, deriver, ca, signatures },
    async *openNar() {
      const dump = spawn('nix-store', ['--dump', lab.realPath(path)], {
        env: lab.env,
        cwd: lab.work,
      });
      yield* dump.stdout as AsyncIterable<Uint8Array>;
    },
  }));
}

/**
 * Stages each path as a separate batch, dependents first, so that the publisher must wait.
 *
 * @returns the batches, in the order in which they were staged
 */
export async function stageBackwards(
  bucket: Bucket,
  storeDir: string,
  closure: readonly LocalPath[],
): Promise<BatchId[]> {
  const staged: BatchId[] = [];
  const order = [...closure].sort(
    (one, other) => other.info.references.length - one.info.references.length,
  );
  for (const path of order) {
    const stager = createStager({
      ...{ bucket, storeDir, upload: newUploadId(), lingerMs: 0 },
      onStaged: (id) => staged.push(id),
      onFailed(_info, error) {
        throw error;
      },
    });
    stager.addPath(path);
    await stager.finish();
  }
  return staged;
}

/** Asserts that the Nix of `lab` substitutes the path from `substituter` into an empty store. */
export async function assertSubstituted(
  t: TestContext,
  lab: NixLab,
  path: string,
  { substituter, publicKey }: { readonly substituter: string; readonly publicKey: string },
): Promise<void> {
  const { nix, storeDir } = lab;
  const settings = { substituters: substituter };
  const reader = await createNixLab({ nix, trustedPublicKeys: [publicKey], settings });
  t.after(() => reader.close());
  if (reader.storeDir !== storeDir) {
    t.skip('this user cannot build below /nix/store, and no two labs share another folder');
    return;
  }
  await reader.output('nix-store', ['--realise', path]);
  assert.ok(existsSync(reader.realPath(path)));
}
