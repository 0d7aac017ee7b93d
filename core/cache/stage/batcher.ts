import { NicheError } from '../../errors.ts';
import { maxBatchNarBytes, maxBatchPaths, maxManifestBytes } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { LocalPath, OnFailed } from './local-path.ts';

/** Puts paths together into batches, as they come. */
export interface Batching {
  /** References should come before what refers to them. */
  add(path: LocalPath): void;
  /** Makes a batch of what still waits for company. */
  flush(): void;
}

export interface BatchingOptions {
  /** How long a small path waits for company, in milliseconds. */
  readonly lingerMs: number;
  readonly onBatch: (paths: readonly LocalPath[]) => void;
  /** Hears of a path that no manifest has room for. */
  readonly onFailed: OnFailed;
}

/** What a manifest needs around its entries, in bytes. */
const manifestOverheadBytes = 64;

/** Whether the path does not share a batch. */
export function isLarge({ narSize }: PathInfo): boolean {
  return narSize > maxBatchNarBytes;
}

export function createBatching({ lingerMs, onBatch, onFailed }: BatchingOptions): Batching {
  let company: LocalPath[] = [];
  let companyNarBytes = 0;
  let companyManifestBytes = 0;
  let linger: NodeJS.Timeout | undefined;

  function add(path: LocalPath): void {
    const { info } = path;
    const manifestBytes = Buffer.byteLength(JSON.stringify(info)) + 1;
    if (manifestBytes + manifestOverheadBytes > maxManifestBytes) {
      onFailed(
        info,
        new NicheError(
          'too-large',
          `${info.path} has too many references: its manifest would have ${manifestBytes} bytes, expected at most ${maxManifestBytes}`,
        ),
      );
      return;
    }
    if (isLarge(info)) {
      onBatch([path]);
      return;
    }
    const isFull =
      company.length >= maxBatchPaths ||
      companyNarBytes + info.narSize > maxBatchNarBytes ||
      companyManifestBytes + manifestBytes + manifestOverheadBytes > maxManifestBytes;
    if (isFull) flush();
    company.push(path);
    companyNarBytes += info.narSize;
    companyManifestBytes += manifestBytes;
    linger ??= setTimeout(flush, lingerMs);
  }

  function flush(): void {
    clearTimeout(linger);
    linger = undefined;
    if (company.length === 0) return;
    onBatch(company);
    company = [];
    companyNarBytes = 0;
    companyManifestBytes = 0;
  }

  return { add, flush };
}
