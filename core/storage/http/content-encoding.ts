import { pipeline, type Readable, type Transform } from 'node:stream';
import {
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
} from 'node:zlib';
import type { HttpResponse } from '../../util/transport.ts';

const decoders: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
  zstd: createZstdDecompress,
};

/** Whether the server encoded the body although the request accepts no encoding. */
export function isEncoded({ headers }: HttpResponse): boolean {
  return !/^(?:identity)?$/i.test(headers['content-encoding'] ?? '');
}

/**
 * Returns the body without its content encoding: some caches store narinfos and logs encoded, and
 * serve them encoded to every client. A body in an unknown encoding is returned as it is.
 */
export function decodeBody({ headers, body }: HttpResponse): Readable {
  const decoder = decoders[(headers['content-encoding'] ?? '').toLowerCase()]?.();
  if (decoder === undefined) return body;
  // The reader sees a failure of either stream on the decoder.
  pipeline(body, decoder, () => undefined);
  return decoder;
}
