import { NicheError, quote } from '../errors.ts';
import { maxDocumentBytes } from '../limits.ts';
import { defaultStoreDir } from './store-path.ts';

/** The `nix-cache-info` at the root of a binary cache. */
export interface CacheInfo {
  /** The store's directory that the cache's paths are for. */
  readonly storeDir: string;
  /** Whether clients may ask for many paths at once without being told to. */
  readonly wantMassQuery: boolean;
  /** Which substituter is asked first: the lowest number. Null leaves it to the client. */
  readonly priority: number | null;
}

/**
 * Reads a `nix-cache-info` as Nix does: unknown lines mean nothing, the store's directory is
 * `/nix/store` unless said otherwise.
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
      `StoreDir must be an absolute path without empty parts, ".", "..", got ${quote(text)}`,
    );
  }
  return text;
}

function malformed(why: string): NicheError {
  return new NicheError('malformed-cache-info', `malformed nix-cache-info: ${why}`);
}
