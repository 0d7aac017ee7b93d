import { createHash, randomBytes } from 'node:crypto';

import { createNarCheck } from '../core/cache/nar/check.ts';
import { parseNarClaim } from '../core/cache/nar/claim.ts';
import { compressZstd } from '../core/cache/zstd/stream.ts';
import { isNicheError } from '../core/errors.ts';
import { base32Alphabet, encodeBase32 } from '../core/nix/base32.ts';

const mib = 2 ** 20;
const storeDir = '/nix/store';
const digest = (of: string | number): Buffer => createHash('sha256').update(String(of)).digest();
const hashOf = (of: string | number): string => encodeBase32(digest(of).subarray(0, 20));
const references = Array.from({ length: 10_000 }, (_, index) => `${storeDir}/${hashOf(index)}-n`);

/** One string of a NAR: its length, its bytes and zeros. */
function token(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  const padded = Buffer.alloc(8 + Math.ceil(bytes.length / 8) * 8);
  padded.writeUInt32LE(bytes.length);
  bytes.copy(padded, 8);
  return padded;
}

const tokens = (...values: (string | Buffer)[]): Buffer => Buffer.concat(values.map(token));

/** A block of contents, which is repeated. */
const blocks: Readonly<Record<string, () => Buffer>> = {
  honest: () => {
    const words = Array.from({ length: 4096 }, (_, index) => digest(index).toString('base64'));
    return Buffer.from(words.map((word, at) => `${word.slice(at % 40)} = f(${at})\n`).join(''));
  },
  'digits that are nearly references': () =>
    Buffer.from(Array.from(randomBytes(mib), (byte) => base32Alphabet[byte & 31]).join('')),
  'digits of one kind': () => Buffer.alloc(mib, '0'),
  'claimed paths': () => Buffer.from(references.slice(1).join('')),
  'unclaimed paths': () =>
    Buffer.from(Array.from({ length: 9000 }, (_, at) => `${storeDir}/${hashOf(-at)}-n`).join('')),
  'store directories': () => Buffer.alloc(11 * 100_000, `${storeDir}/`),
};

/** Entries of one directory, each under its name. */
const entries: Readonly<Record<string, (name: string) => Buffer>> = {
  'empty directories': (name) => entry(name, '(', 'type', 'directory', ')'),
  'names that are escaped': (name) =>
    entry(Buffer.concat([Buffer.alloc(240, 1), Buffer.from(name)]), '(', 'type', 'directory', ')'),
  'long symlinks': (name) =>
    entry(name, '(', 'type', 'symlink', 'target', Buffer.alloc(4095, 1), ')'),
};

function entry(name: string | Buffer, ...node: (string | Buffer)[]): Buffer {
  return tokens('entry', '(', 'name', name, 'node', ...node, ')');
}

export const hostileKinds = [...Object.keys(blocks).slice(1), ...Object.keys(entries)];

function* narOf(kind: string, size: number): Generator<Buffer> {
  const block = blocks[kind]?.();
  if (block) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(Math.floor(size / block.length) * block.length));
    yield tokens('nix-archive-1', '(', 'type', 'regular', 'contents');
    yield length;
    for (let at = 0; at + block.length <= size; at += block.length) yield block;
    return;
  }
  const make = entries[kind];
  if (!make) throw new Error(`there is no kind ${kind}`);
  yield tokens('nix-archive-1', '(', 'type', 'directory');
  let made: Buffer[] = [];
  for (let index = 0, bytes = 0, total = 0; total < size; index++) {
    const next = make(String(index).padStart(9, '0'));
    made.push(next);
    bytes += next.length;
    total += next.length;
    if (bytes < mib) continue;
    yield Buffer.concat(made);
    made = [];
    bytes = 0;
  }
}

/** Checks and compresses a NAR of this kind as the publisher does. Its end is missing: it is refused. */
async function publish(kind: string, size: number): Promise<void> {
  const info = {
    path: `${storeDir}/${hashOf('path')}-hostile`,
    narHash: `sha256:${'0'.repeat(52)}`,
    narSize: 2 * size,
    references,
    deriver: null,
    ca: null,
    signatures: [],
  };
  const check = createNarCheck(parseNarClaim(info, storeDir), { unclaimed: 'warn' });
  async function* source(): AsyncIterable<Uint8Array> {
    yield* narOf(kind, size);
    await Promise.resolve();
  }
  const frames = compressZstd(check.checkStream(source()), {
    level: 3,
    parallelism: 2,
    totalBytes: size,
  })[Symbol.asyncIterator]();
  try {
    while ((await frames.next()).done !== true);
  } catch (error) {
    if (!isNicheError(error, 'nar-size-mismatch')) throw error;
  }
}

const [, , kind, size] = process.argv;
if (import.meta.main) await publish(kind ?? '', Number(size) * mib);
