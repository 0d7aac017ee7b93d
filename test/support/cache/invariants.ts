import { zstdDecompressSync } from 'node:zlib';
import { readAuditRecords } from '../../../core/cache/audit.ts';
import { parseNarInfoKey } from '../../../core/cache/layout.ts';
import { createFrameParser } from '../../../core/cache/zstd/frame-parser.ts';
import type { Upstreams } from '../../../core/cache/upstreams.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { parsePublicKey, parseSignature, verifyFingerprint } from '../../../core/nix/keys.ts';
import { parseNarInfo } from '../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../core/nix/narinfo.ts';
import type { PathInfo } from '../../../core/nix/path-info.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { readObject } from '../assert/bytes.ts';
import { narHashOf } from './paths.ts';

/** The message begins with the broken promise: `I1`, `I2`, `I3`, `I5` or `I6`. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** The visible narinfos at one moment: their texts by their keys. */
export type Visible = ReadonlyMap<string, string>;

export interface InvariantOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly publicKeys: readonly string[];
  readonly upstreams: Upstreams;
  /** The view at an earlier moment, for I3. */
  readonly before?: Visible;
  /** Claims that must not be visible, for I5. */
  readonly rejected?: readonly PathInfo[];
}

/**
 * Reads the whole cache as an untrusting client does, and checks its promises.
 *
 * @throws InvariantError
 */
export async function checkInvariants(options: InvariantOptions): Promise<Visible> {
  const visible = new Map<string, string>();
  for await (const { key } of options.public.list('')) {
    if (parseNarInfoKey(key) === null) continue;
    visible.set(key, (await readObject(options.public, key))?.toString() ?? '');
  }
  const infos = new Map([...visible].map(([key, text]) => [key, parseVisible(key, text)]));
  const audited = new Set<string>();
  for await (const record of readAuditRecords(options.private)) {
    for (const signature of record.signatures) audited.add(`${record.path} ${signature}`);
  }
  for (const info of infos.values()) {
    checkNar(info, await readObject(options.public, info.url));
    checkSignatures(info, options.publicKeys, audited);
    for (const reference of info.references) {
      const hash = storeHash(reference);
      const lookup = await options.upstreams.findNarInfo(hash);
      const upstream = lookup.kind === 'found' ? lookup.info : undefined;
      const found = infos.get(`${hash}.narinfo`) ?? upstream;
      if (found?.path !== reference) fail('I2', `${info.path} refers to ${reference}, not present`);
    }
  }
  if (options.before) checkUnchanged(options.before, visible);
  for (const { path, narHash } of options.rejected ?? []) {
    const info = infos.get(`${storeHash(path)}.narinfo`);
    if (info?.path === path && info.narHash === narHash) fail('I5', `${path} was rejected`);
  }
  return visible;
}

export function parseVisible(key: string, text: string): NarInfo {
  try {
    const info = parseNarInfo(text);
    if (`${storeHash(info.path)}.narinfo` === key) return info;
  } catch (cause) {
    throw new InvariantError(`I1: ${key} is no narinfo`, { cause });
  }
  return fail('I1', `${key} is of another path`);
}

/** Checks I1: the NAR of a narinfo exists and matches its fields. */
export function checkNar(info: NarInfo, stored: Uint8Array | null): void {
  if (!stored) return fail('I1', `${info.url} of ${info.path} is missing`);
  const isFile = stored.length === info.fileSize && narHashOf(stored) === info.fileHash;
  if (!isFile) fail('I1', `${info.url} of ${info.path} is another file`);
  let nar: Uint8Array;
  try {
    nar = info.compression === 'zstd' ? decompress(stored) : stored;
  } catch (cause) {
    throw new InvariantError(`I1: ${info.url} is not ${info.compression}`, { cause });
  }
  const isNar = nar.length === info.narSize && narHashOf(nar) === info.narHash;
  if (!isNar) fail('I1', `${info.url} is not the NAR of ${info.path}`);
}

/** Decompresses each frame, since node:zlib stops after the first one. */
function decompress(stored: Uint8Array): Buffer {
  const parts: Buffer[] = [];
  for (let rest = stored; rest.length > 0;) {
    const parser = createFrameParser();
    const size = parser.take(rest);
    if (!parser.isDone()) throw new Error('the last frame is truncated');
    parts.push(zstdDecompressSync(rest.subarray(0, size)));
    rest = rest.subarray(size);
  }
  return Buffer.concat(parts);
}

/** Checks I1: a signature is valid, and none by the cache's keys is not; I6: each has an audit record. */
export function checkSignatures(
  info: NarInfo,
  publicKeys: readonly string[],
  audited: ReadonlySet<string>,
): void {
  const keys = publicKeys.map(parsePublicKey);
  const text = fingerprint(info);
  let verified = 0;
  for (const signature of info.signatures) {
    const { name } = parseSignature(signature);
    const key = keys.filter((candidate) => candidate.name === name);
    if (key.length === 0) continue;
    if (!verifyFingerprint(text, signature, key)) fail('I1', `${signature} does not verify`);
    verified += 1;
    if (!audited.has(`${info.path} ${signature}`)) fail('I6', `${signature} has no audit record`);
  }
  if (verified === 0) fail('I1', `${info.path} carries no signature of the cache`);
}

/** Checks I3: narinfos stay visible and unchanged, except for added signatures. */
export function checkUnchanged(before: Visible, after: Visible): void {
  const unsigned = (text: string): string => text.replaceAll(/^Sig: .*\n/gm, '');
  const signatures = (text: string): string[] => text.match(/^Sig: .*$/gm) ?? [];
  for (const [key, text] of before) {
    const now = after.get(key);
    if (now === text) continue;
    if (now === undefined) return fail('I3', `${key} is gone`);
    if (unsigned(now) !== unsigned(text)) fail('I3', `${key} has changed:\n${text}\n${now}`);
    const kept = new Set(signatures(now));
    if (signatures(text).some((line) => !kept.has(line))) fail('I3', `${key} lost a signature`);
  }
}

export function fail(invariant: string, what: string): never {
  throw new InvariantError(`${invariant}: ${what}`);
}
