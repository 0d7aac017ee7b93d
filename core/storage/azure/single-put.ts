import { NicheError, quote } from '../../errors.ts';
import type { AzureBucketClient } from './client.ts';
import { abortable } from './read.ts';
import { headersOf, isUnmet, putBlob } from './write.ts';
import type { ObjectOptions, PutOutcome } from '../bucket.ts';
import type { PartSink } from '../http/part-buffer.ts';

/** Azure's limit on a blob that is written in one request, in bytes. */
const maxOnePutBytes = 5000 * 2 ** 20;

const ifAbsent = { ifNoneMatch: '*' };

/**
 * Where an upload goes whose credentials may create blobs, and not write blocks: into the body of
 * one request, which has to say its size first. It cannot be sent again, and leaves nothing when it
 * breaks off.
 */
export function onePutSink(
  client: AzureBucketClient,
  key: string,
  options: ObjectOptions,
): PartSink {
  const { size, signal } = options;
  const name = client.at(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  const pipe = createPipe();
  let sending: Promise<PutOutcome> | undefined;

  function begin(): Promise<PutOutcome> {
    if (size === undefined || size > maxOnePutBytes) {
      throw new NicheError(
        'storage-denied',
        `${action} failed: the signature lets a blob be created in one request, of at most ${maxOnePutBytes} bytes that are counted before; got ${size ?? 'an unknown number'}`,
        { hint: 'use a signature that may write too (sp=cw)' },
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
      // It may fail while nobody waits for it; whoever does is told.
      sending.catch(() => undefined);
    }
    try {
      await Promise.race([pipe.write(bytes), sending]);
    } catch (error) {
      // An answer before the body's end is why nothing more was taken.
      await sending;
      throw error;
    }
  }

  return {
    token: () => undefined,
    putWhole: (bytes, isCreated) =>
      putBlob(client, key, bytes, { ...options, ifAbsent: isCreated }),
    putPart: (_, bytes) => send(bytes),
    async complete(_, last, isCreated) {
      await send(last);
      pipe.end();
      const outcome = (await sending) ?? 'exists';
      if (outcome === 'created' || isCreated) return outcome;
      throw new NicheError(
        'storage-denied',
        `${action} failed: there is a blob already, and the signature may replace none`,
      );
    },
    async discard() {
      pipe.destroy(new Error('the upload was given up'));
      await sending?.catch(() => undefined);
    },
  };
}

interface Pipe {
  readonly body: AsyncIterable<Uint8Array>;
  /** Resolves once the reader has come for the bytes, and for more. */
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
