import { NicheError, quote } from '../../errors.ts';
import type { AzureBucketClient } from './client.ts';
import { abortable } from './read.ts';
import { headersOf, isUnmet, putBlob } from './write.ts';
import type { ObjectOptions, PutOutcome } from '../bucket.ts';
import type { PartSink } from '../http/multipart-upload.ts';

/** Azure's limit on a blob that is written in one request, in bytes. */
export const maxSinglePutBytes = 5000 * 2 ** 20;

const ifAbsent = { ifNoneMatch: '*' };

/**
 * Sends the parts of one upload as the body of a single request, for SAS tokens that may create
 * blobs and not write blocks. The request states the size first and cannot be retried. It leaves
 * nothing when it fails.
 */
export function singlePutSink(
  client: AzureBucketClient,
  key: string,
  options: ObjectOptions,
): PartSink {
  const { size, signal } = options;
  const name = client.blobName(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  const pipe = createPipe();
  let sending: Promise<PutOutcome> | undefined;
  let sentBytes = 0;

  function begin(): Promise<PutOutcome> {
    if (size === undefined || size > maxSinglePutBytes) {
      throw new NicheError(
        'storage-denied',
        `${action} failed: the SAS token only allows a single request: expected a known size of at most ${maxSinglePutBytes} bytes, got ${size ?? 'an unknown size'}`,
        { hint: 'use a SAS token that may also write (sp=cw)' },
      );
    }
    let isSent = false;
    return client.run<PutOutcome>({
      action,
      signal,
      attempt: async ({ container }) => {
        if (isSent) {
          throw new NicheError('storage-unavailable', `${action} failed: the connection broke`, {
            hint: 'try again',
          });
        }
        isSent = true;
        try {
          await container.getBlockBlobClient(name).upload(pipe.body as never, size, {
            ...abortable(signal),
            conditions: ifAbsent,
            blobHTTPHeaders: headersOf(options),
          });
          return 'created';
        } catch (error) {
          if (isUnmet(error, ifAbsent)) return 'exists';
          throw error;
        }
      },
    });
  }

  async function send(bytes: Uint8Array): Promise<void> {
    if (sending === undefined) {
      sending = begin();
      // A failure between two writes is thrown by the next one.
      sending.catch(() => undefined);
    }
    sentBytes += bytes.length;
    if (size !== undefined && sentBytes > size) throw wrongSize(`at least ${sentBytes}`);
    try {
      await Promise.race([pipe.write(bytes), sending]);
    } catch {
      // A response before the end of the body closes it, and is the result to report.
      await sending;
    }
  }

  function wrongSize(got: string): NicheError {
    return new NicheError(
      'storage-integrity',
      `${action} failed: expected ${size ?? 'an unknown number of'} bytes, got ${got}`,
    );
  }

  return {
    token: () => undefined,
    putWhole: (bytes, isCreated) =>
      putBlob(client, key, bytes, { ...options, ifAbsent: isCreated }),
    putPart: (_, bytes) => send(bytes),
    async complete(_, last, isCreated) {
      await send(last);
      if (sentBytes !== size) throw wrongSize(`only ${sentBytes}`);
      pipe.end();
      const outcome = (await sending) ?? 'exists';
      if (outcome === 'created' || isCreated) return outcome;
      throw new NicheError(
        'storage-denied',
        `${action} failed: the blob exists, and the SAS token may not replace it`,
      );
    },
    async discard() {
      pipe.destroy(new Error('the upload was aborted'));
      await sending?.catch(() => undefined);
    },
  };
}

interface Pipe {
  readonly body: AsyncIterable<Uint8Array>;
  /** Resolves when the reader has taken the bytes and is ready for more. */
  write(bytes: Uint8Array): Promise<void>;
  end(): void;
  destroy(reason: Error): void;
}

function createPipe(): Pipe {
  const stream = new TransformStream<Uint8Array, Uint8Array>();
  const writer = stream.writable.getWriter();
  writer.closed.catch(() => undefined);
  return {
    body: stream.readable,
    write: (bytes) => writer.write(bytes),
    end() {
      writer.close().catch(() => undefined);
    },
    destroy(reason) {
      writer.abort(reason).catch(() => undefined);
    },
  };
}
