import { NicheError, quote } from '../errors.ts';
import { maxDocumentBytes } from '../limits.ts';
import { defaultStoreDir } from './store-path.ts';

/** Contents of `nix-cache-info`, at the root of every binary cache. */
export interface CacheInfo {
  /** The store directory of the cache's paths. */
  readonly storeDir: string;
  /** Whether clients may query many paths at once without being configured to. */
  readonly wantMassQuery: boolean;
  /** Nix queries the substituter with the lowest number first. Null leaves it to the client. */
  readonly priority: number | null;
}

/**
 * Parses a `nix-cache-info` as Nix does (BinaryCacheStore::init): ignores unknown lines, and defaults
 * to the store directory `/nix/store`.
 *
 * @throws NicheError `malformed-cache-info`
 */
export function parseCacheInfo(text: string): CacheInfo {
  if (Buffer.byteLength(text) > maxDocumentBytes) {
    throw malformed(`expected at most ${maxDocumentBytes} bytes, got ${Buffer.byteLength(text)}`);
  }
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon >= 0) {
      fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
    }
  }
  const priority = fields.get('Priority');
  if (priority !== undefined && !isPriority(Number(priority), priority)) {
    throw malformed(`Priority must be a whole number, got ${quote(priority)}`);
  }
  return {
    storeDir: checkedStoreDir(fields.get('StoreDir') ?? defaultStoreDir),
    wantMassQuery: fields.get('WantMassQuery') === '1',
    priority: priority === undefined ? null : Number(priority),
  };
}

/** @throws NicheError `malformed-cache-info` */
export function formatCacheInfo(info: CacheInfo): string {
  const lines = [
    `StoreDir: ${checkedStoreDir(info.storeDir)}`,
    `WantMassQuery: ${info.wantMassQuery ? 1 : 0}`,
  ];
  if (info.priority !== null) {
    if (!isPriority(info.priority, String(info.priority))) {
      throw malformed(`Priority must be a whole number, got ${info.priority}`);
    }
    lines.push(`Priority: ${info.priority}`);
  }
  return `${lines.join('\n')}\n`;
}

function isPriority(value: number, text: string): boolean {
  return /^-?[0-9]+$/.test(text) && Math.abs(value) < 2 ** 31;
}

function checkedStoreDir(text: string): string {
  const segments = text.split('/').slice(1);
  const plain = segments.every(
    (segment) => /^[^\0-\x20\x7f]+$/.test(segment) && !/^\.\.?$/.test(segment),
  );
  if (!text.startsWith('/') || !plain) {
    throw malformed(
      `StoreDir must be an absolute path without empty, "." or ".." parts, got ${quote(text)}`,
    );
  }
  return text;
}

function malformed(reason: string): NicheError {
  return new NicheError('malformed-cache-info', `malformed nix-cache-info: ${reason}`);
}
