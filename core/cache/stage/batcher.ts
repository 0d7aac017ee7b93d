import { NicheError } from '../../errors.ts';
import { maxBatchNarBytes, maxBatchPaths, maxManifestBytes } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { assertClaim } from '../manifest.ts';
import type { LocalPath, OnFailed } from './local-path.ts';

/** Groups paths into batches as they arrive. */
export interface Batcher {
  /** Adds a path. Add references before the paths that refer to them. */
  addPath(path: LocalPath): void;
  /** Makes a batch of the pending paths now. */
  flush(): void;
}

export interface BatcherOptions {
  readonly storeDir: string;
  /** How long a path waits for others to share a batch with, in milliseconds. */
  readonly lingerMs: number;
  readonly onBatch: (paths: readonly LocalPath[]) => void;
  /** Called for each path whose claim no publisher would accept. */
  readonly onFailed: OnFailed;
}

/** Size of a manifest without its entries, in bytes, rounded up. */
const manifestOverheadBytes = 64;

/** Whether the path is so large that it gets a batch of its own. */
export function isLarge({ narSize }: PathInfo): boolean {
  return narSize > maxBatchNarBytes;
}

export function createBatcher(options: BatcherOptions): Batcher {
  const { storeDir, lingerMs, onBatch, onFailed } = options;
  let pending: LocalPath[] = [];
  let pendingNarBytes = 0;
  let pendingManifestBytes = 0;
  let linger: NodeJS.Timeout | undefined;

  function addPath(path: LocalPath): void {
    const { info } = path;
    const manifestBytes = Buffer.byteLength(JSON.stringify(info)) + 1;
    try {
      assertClaim(info, storeDir);
      assertFits(info, manifestBytes);
    } catch (error) {
      onFailed(info, error);
      return;
    }
    if (isLarge(info)) {
      onBatch([path]);
      return;
    }
    const isFull =
      pending.length >= maxBatchPaths ||
      pendingNarBytes + info.narSize > maxBatchNarBytes ||
      pendingManifestBytes + manifestBytes + manifestOverheadBytes > maxManifestBytes;
    if (isFull) flush();
    pending.push(path);
    pendingNarBytes += info.narSize;
    pendingManifestBytes += manifestBytes;
    linger ??= setTimeout(flush, lingerMs);
  }

  function flush(): void {
    clearTimeout(linger);
    linger = undefined;
    if (pending.length === 0) return;
    onBatch(pending);
    pending = [];
    pendingNarBytes = 0;
    pendingManifestBytes = 0;
  }

  return { addPath, flush };
}

/** @throws NicheError `too-large` */
function assertFits({ path }: PathInfo, manifestBytes: number): void {
  if (manifestBytes + manifestOverheadBytes <= maxManifestBytes) return;
  throw new NicheError(
    'too-large',
    `${path} has too many references: its manifest would have ${manifestBytes} bytes, expected at most ${maxManifestBytes}`,
  );
}
