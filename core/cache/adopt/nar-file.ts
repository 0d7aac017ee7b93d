import { pipeline, Readable } from 'node:stream';
import type { Transform } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import { createBrotliDecompress, createGunzip } from 'node:zlib';

import xz from 'xz-decompress';

import { NicheError, isNicheError, messageOf, quote } from '../../errors.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { isKey } from '../../storage/keys.ts';
import { rootOf } from '../layout.ts';
import { decompressZstd } from '../zstd/stream.ts';

type Decoder = (source: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

/** By Nix's name. Nix reads more kinds, such as bzip2, which no cache has used for years. */
const decoders: Readonly<Record<string, Decoder>> = {
  none: (source) => source,
  zstd: (source) => decompressZstd(source),
  xz: decompressXz,
  gzip: (source) => transform(source, createGunzip()),
  br: (source) => transform(source, createBrotliDecompress()),
};

/**
 * Yields the NAR of a narinfo that any program may have written, uncompressed. Ends no later than its
 * consumer: a small file may decompress to any size.
 *
 * @throws NicheError `malformed-narinfo` for a URL outside the cache; `missing-nar`; `unreadable-nar`
 *   when it cannot be decompressed; `storage-…`
 */
export async function* openNarFile(
  reader: ObjectReader,
  { path, url, compression }: Pick<NarInfo, 'path' | 'url' | 'compression'>,
): AsyncGenerator<Uint8Array> {
  if (!isKey(url) || rootOf(url) !== 'public') {
    const message = `the NAR of ${path}: expected the key of an object in the cache, got ${quote(url)}`;
    throw new NicheError('malformed-narinfo', message);
  }
  const decode = decoders[compression];
  if (!decode) {
    throw new NicheError(
      'unreadable-nar',
      `the NAR of ${path}: expected a compression of ${Object.keys(decoders).join(', ')}, got ${quote(compression)}`,
    );
  }
  const object = await reader.get(url);
  if (!object) throw new NicheError('missing-nar', `the NAR of ${path}, ${url}, is missing`);
  try {
    yield* decode(object.body);
  } catch (cause) {
    if (isNicheError(cause) && cause.code !== 'storage-integrity') throw cause;
    throw new NicheError(
      'unreadable-nar',
      `the NAR of ${path}: ${url} does not decompress as ${compression}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** The decoder has one memory for the process: streams that run at once wait for each other. */
async function* decompressXz(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const input = source[Symbol.asyncIterator]();
  const stream = ReadableStream.from({ [Symbol.asyncIterator]: () => input });
  // The types of Node and of the package differ in overloads alone.
  const compressed = stream as unknown as globalThis.ReadableStream<Uint8Array>;
  const reader = new xz.XzReadableStream(compressed).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    // The package fails to cancel a stream whose end it has decompressed, and then leaves the input open.
    await reader.cancel().catch(() => undefined);
    await input.return?.(undefined);
  }
}

async function* transform(
  source: AsyncIterable<Uint8Array>,
  decoder: Transform,
): AsyncGenerator<Uint8Array> {
  // A failure reaches the consumer through the decoder.
  yield* pipeline(Readable.from(copied(source)), decoder, () => undefined) as AsyncIterable<Buffer>;
}

/** A source may reuse its chunks, and a stream holds several. */
async function* copied(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) yield Uint8Array.from(chunk);
}
