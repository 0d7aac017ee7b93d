import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { narInfoKey } from '../../../core/cache/layout.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { signFingerprint } from '../../../core/nix/keys.ts';
import type { SecretKey } from '../../../core/nix/keys.ts';
import { formatNarInfo } from '../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../core/nix/narinfo.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { narHashOf } from './paths.ts';
import type { TestPath } from './paths.ts';

export interface ForeignOptions {
  /** @default none */
  readonly keys?: readonly SecretKey[];
  /** @default 'zstd' */
  readonly compression?: 'none' | 'zstd' | 'gzip' | 'br';
  /** Overrides of fields, which are not signed. */
  readonly fields?: Partial<NarInfo>;
}

const encoders = {
  none: (nar: Uint8Array) => nar,
  zstd: zstdCompressSync,
  gzip: gzipSync,
  br: brotliCompressSync,
};

/** Writes a path as `nix copy` does: its NAR under a key with the hash of the file. */
export async function writeForeign(
  bucket: Bucket,
  { info, nar }: TestPath,
  { keys = [], compression = 'zstd', fields = {} }: ForeignOptions = {},
): Promise<NarInfo> {
  const file = encoders[compression](nar);
  const fileHash = narHashOf(file);
  const url = `nar/${fileHash.slice('sha256:'.length)}.nar.${compression}`;
  const signatures = keys.map((key) => signFingerprint(fingerprint(info), key));
  const stored = { url, compression, fileHash, fileSize: file.length, extra: [] };
  const narInfo = { ...info, ...stored, signatures, ...fields };
  await bucket.put(url, file);
  await bucket.put(narInfoKey(storeHash(info.path)), Buffer.from(formatNarInfo(narInfo)));
  return narInfo;
}
