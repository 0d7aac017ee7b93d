import { randomBytes } from 'node:crypto';

import { base32Alphabet, encodeBase32 } from '../core/nix/base32.ts';
import { defaultStoreDir } from '../core/nix/store-path.ts';

const mib = 2 ** 20;

/** The references that every hostile path claims: as many as a path may have. */
export const references = Array.from({ length: 10_000 }, () => `${defaultStoreDir}/${hash()}-n`);

function hash(): string {
  return encodeBase32(randomBytes(20));
}

/** Returns the contents that a NAR ends with: all references, so that the scan looks for some until then. */
function makeEnding(): Buffer {
  const unique = randomBytes(16).toString('hex');
  return Buffer.from([...references, unique].join('\n'));
}

const tokens = (...values: (string | Buffer)[]): Buffer => Buffer.concat(values.map(token));

/** One string of a NAR: its length, its bytes and zeros. */
function token(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([lengthField(bytes.length), bytes, padding(bytes.length)]);
}

function lengthField(length: number): Buffer {
  const field = Buffer.alloc(8);
  field.writeBigUInt64LE(BigInt(length));
  return field;
}

function padding(length: number): Buffer {
  return Buffer.alloc((8 - (length % 8)) % 8);
}

/** A block of a file's contents, which is repeated. */
const blocks: Readonly<Record<string, () => Buffer>> = {
  'digits that are nearly references': () =>
    Buffer.from(Array.from(randomBytes(mib), (byte) => base32Alphabet[byte & 31]).join('')),
  'digits of one kind': () => Buffer.alloc(mib, '0'),
  'claimed paths': () => Buffer.from(references.slice(1).join('')),
  'unclaimed paths': () =>
    Buffer.from(Array.from({ length: 9000 }, () => `${defaultStoreDir}/${hash()}-n`).join('')),
  'store directories': () => Buffer.alloc(11 * 100_000, `${defaultStoreDir}/`),
};

/** An entry of one large directory. The names of a directory ascend. */
const entries: Readonly<Record<string, (name: string) => Buffer>> = {
  'empty directories': (name) => entry(name, '(', 'type', 'directory', ')'),
  'empty files': (name) => entry(name, '(', 'type', 'regular', 'contents', '', ')'),
  'escaped names': (name) =>
    entry(Buffer.concat([Buffer.alloc(240, 1), Buffer.from(name)]), '(', 'type', 'directory', ')'),
  'long names': (name) =>
    entry(`${'n'.repeat(240)}${name}`, '(', 'type', 'symlink', 'target', 't', ')'),
  'long symlinks': (name) =>
    entry(name, '(', 'type', 'symlink', 'target', Buffer.alloc(4095, 1), ')'),
};

function entry(name: string | Buffer, ...node: (string | Buffer)[]): Buffer {
  return tokens('entry', '(', 'name', name, 'node', ...node, ')');
}

export const hostileKinds = [...Object.keys(blocks), ...Object.keys(entries)];

/** Returns a new valid NAR of about `size` bytes, which contains all {@link references}. */
export function hostileNar(kind: string, size: number): Iterable<Buffer> {
  const block = blocks[kind];
  if (block) return fileNar(block(), size);
  const makeEntry = entries[kind];
  if (makeEntry) return directoryNar(makeEntry, size);
  throw new Error(`there is no kind ${kind}`);
}

function* fileNar(block: Buffer, size: number): Generator<Buffer> {
  const ending = makeEnding();
  const count = Math.floor(size / block.length);
  const length = count * block.length + ending.length;
  yield tokens('nix-archive-1', '(', 'type', 'regular', 'contents');
  yield lengthField(length);
  for (let index = 0; index < count; index++) yield block;
  yield Buffer.concat([ending, padding(length), token(')')]);
}

function* directoryNar(makeEntry: (name: string) => Buffer, size: number): Generator<Buffer> {
  yield tokens('nix-archive-1', '(', 'type', 'directory');
  let written = 0;
  for (let index = 0; written < size;) {
    const made: Buffer[] = [];
    for (let bytes = 0; bytes < mib; index++) {
      const next = makeEntry(String(index).padStart(9, '0'));
      made.push(next);
      bytes += next.length;
      written += next.length;
    }
    yield Buffer.concat(made);
  }
  yield entry('references', '(', 'type', 'regular', 'contents', makeEnding(), ')');
  yield token(')');
}
