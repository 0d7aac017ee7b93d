import { createHash } from 'node:crypto';
import type { SelfReferenceForm } from '../../../core/cache/nar/modulo-hash.ts';
import { encodeBase32 } from '../../../core/nix/base32.ts';
import { formatContentAddress } from '../../../core/nix/content-address.ts';
import { formatHash } from '../../../core/nix/hash.ts';
import { createDigester } from '../../../core/nix/digest.ts';
import { createGitHasher } from '../../../core/nix/git-hash.ts';
import type { HashAlgorithm } from '../../../core/nix/hash.ts';
import { createNarParser } from '../../../core/nix/nar-parser.ts';
import { writeNar } from '../../../core/nix/nar-writer.ts';
import type { NarNode } from '../../../core/nix/nar-writer.ts';
import type { PathInfo } from '../../../core/nix/path-info.ts';
import { computeCaPath, defaultStoreDir } from '../../../core/nix/store-path.ts';
import { collect } from '../assert/bytes.ts';

/** A store path that was never built: its claim, and the matching NAR. */
export interface TestPath {
  readonly info: PathInfo;
  readonly nar: Buffer;
}

export interface TestPathOptions {
  /** Full store paths or test paths. The contents contain each of them. */
  readonly references?: readonly (string | TestPath)[];
  readonly selfReference?: boolean;
  /** Further contents, after the references. */
  readonly contents?: string | Uint8Array;
  readonly deriver?: string | null;
}

const pathOf = (reference: string | TestPath): string =>
  typeof reference === 'string' ? reference : reference.info.path;

/** Returns an input-addressed path. Its hash depends only on its name. */
export async function testPath(name: string, options: TestPathOptions = {}): Promise<TestPath> {
  const path = inventedPath(name);
  const references = (options.references ?? []).map(pathOf);
  if (options.selfReference === true) references.push(path);
  const contents = Buffer.concat([
    Buffer.from(references.map((reference) => `${reference}/bin\n`).join('')),
    Buffer.from(options.contents ?? `the contents of ${name}`),
  ]);
  const nar = await fileNar(contents);
  return {
    info: {
      ...claimOf(path, nar),
      references: references.sort(),
      deriver: options.deriver ?? null,
    },
    nar,
  };
}

/** Returns a store path with this name and a made-up hash. */
export function inventedPath(name: string): string {
  const digest = createHash('sha256').update(name).digest();
  return `${defaultStoreDir}/${encodeBase32(digest.subarray(0, 20))}-${name}`;
}

/** Returns the info of a path with this NAR and without references. */
export function claimOf(path: string, nar: Uint8Array): PathInfo {
  return {
    path,
    narHash: narHashOf(nar),
    narSize: nar.length,
    references: [],
    deriver: null,
    ca: null,
    signatures: [],
  };
}

export function narHashOf(nar: Uint8Array): string {
  const digest = createHash('sha256').update(nar).digest();
  return formatHash({ algorithm: 'sha256', digest }, 'base32');
}

export async function fileNar(contents: Uint8Array | string, executable = false): Promise<Buffer> {
  const bytes = Buffer.from(contents);
  return treeNar({ type: 'regular', executable, size: bytes.length, contents: () => bytes });
}

export async function treeNar(node: NarNode): Promise<Buffer> {
  return collect(writeNar(node));
}

/** Returns a path with a NAR of about 64 MiB, the same in every process. */
export function largeTestPath(): Promise<TestPath> {
  return testPath('large', { contents: Buffer.alloc(64 * 2 ** 20, 'a large path ') });
}

/** Returns a file with one of Nix's content addresses. */
export async function contentAddressedFile(
  name: string,
  method: 'text' | 'flat' | 'nar' | 'git',
  algorithm: HashAlgorithm,
  options: Pick<TestPathOptions, 'references' | 'contents'> = {},
): Promise<TestPath> {
  const references = (options.references ?? []).map(pathOf).sort();
  const contents = Buffer.from(
    `${references.join('\n')}\n${(options.contents ?? `contents of ${name}`).toString()}`,
  );
  const nar = await fileNar(contents);
  const digest =
    method === 'git'
      ? gitDigest(nar, algorithm)
      : await digestOf(method === 'nar' ? nar : contents, algorithm);
  const address = { method, hash: { algorithm, digest } };
  const path = computeCaPath(address, name, references, false);
  const info = { ...claimOf(path, nar), references, ca: formatContentAddress(address) };
  return { info, nar };
}

/** Returns the Git hash of a NAR. */
export function gitDigest(nar: Uint8Array, algorithm: HashAlgorithm): Uint8Array {
  const hasher = createGitHasher(algorithm);
  const parser = createNarParser(hasher);
  parser.write(nar);
  parser.end();
  return hasher.digest();
}

async function digestOf(bytes: Uint8Array, algorithm: HashAlgorithm): Promise<Uint8Array> {
  const digester = await createDigester(algorithm);
  digester.update(bytes);
  return digester.digest();
}

/**
 * Returns a content-addressed file that refers to itself. Its hash covers the NAR with zeros instead of
 * its own store hash and, in the form `positions`, the positions of these zeros.
 */
export async function selfReferringFile(
  name: string,
  references: readonly TestPath[] = [],
  form: SelfReferenceForm = 'positions',
): Promise<TestPath> {
  const others = references.map(pathOf).sort();
  const hashAt = '0'.repeat(32);
  const template = (hash: string): string =>
    `${others.join('\n')}\nself: ${defaultStoreDir}/${hash}-${name} and again ${hash}`;
  const zeroed = await fileNar(template('\0'.repeat(32)));
  const hasher = createHash('sha256').update(zeroed);
  const placed = await fileNar(template(hashAt));
  const first = form === 'positions' ? placed.indexOf(hashAt) : -1;
  for (let at = first; at >= 0; at = placed.indexOf(hashAt, at + 32)) {
    hasher.update(`|${at}`);
  }
  const address = {
    method: 'nar',
    hash: { algorithm: 'sha256', digest: hasher.digest() },
  } as const;
  const path = computeCaPath(address, name, others, true);
  const nar = await fileNar(template(path.slice(defaultStoreDir.length + 1).slice(0, 32)));
  const info = {
    ...claimOf(path, nar),
    references: [...others, path].sort(),
    ca: formatContentAddress(address),
  };
  return { info, nar };
}
