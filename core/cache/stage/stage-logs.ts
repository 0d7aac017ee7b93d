import { createLimit, mapConcurrent } from '../../util/concurrency.ts';
import { maxLogBytes } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { stagedLogKey } from '../layout.ts';
import type { LocalPath } from './local-path.ts';
import { createObject } from '../objects.ts';

/** Stages build logs, each once however many outputs its derivation has. */
export interface LogStaging {
  stage(upload: string, paths: readonly LocalPath[]): Promise<void>;
  /** Where the logs of some paths are staged. */
  keysOf(upload: string, paths: readonly LocalPath[]): string[];
}

/** Of all batches: to read one a process of Nix's is run, and to send it takes a round trip. */
const logsAtOnce = 8;

export function createLogStaging(bucket: Bucket, storeDir: string): LogStaging {
  const staged = new Set<string>();
  const inTurn = createLimit(logsAtOnce);

  function keyOf(upload: string, { deriver }: PathInfo): string | null {
    return deriver && stagedLogKey(upload, baseNameOf(deriver, storeDir));
  }

  async function stageOne(upload: string, { info, readLog }: LocalPath): Promise<void> {
    const key = keyOf(upload, info);
    if (!readLog || key === null || staged.has(key)) return;
    staged.add(key);
    const log = await readLog();
    if (log && log.length > 0 && log.length <= maxLogBytes) await createObject(bucket, key, log);
  }

  return {
    async stage(upload, paths) {
      await mapConcurrent(paths, logsAtOnce, (path) => inTurn(() => stageOne(upload, path)));
    },
    keysOf: (upload, paths) => paths.flatMap(({ info }) => keyOf(upload, info) ?? []),
  };
}
