import { hash } from 'node:crypto';

import type { S3Client } from '@aws-sdk/client-s3';

/** The SHA-256 of bodies that are about to be sent. */
const digests = new WeakMap<Uint8Array, Uint8Array>();

/** Makes the signature of `body` cover its SHA-256, so that every server checks it. */
export function signDigest(body: Uint8Array, digest: Uint8Array): void {
  digests.set(body, digest);
}

/** The parts of a request in the build step that are used. The SDK's types differ by command. */
interface Building {
  readonly input: { readonly Body?: unknown };
  readonly request: { headers: Record<string, string>; body: string | Uint8Array };
}

/**
 * Adds headers that the SDK does not send. The middleware is added to the client, not to each
 * command, so that the SDK assembles the stack of each kind of command once; that is a fifth of a
 * small request's cost.
 *
 * @param needsMd5 for servers that require `Content-MD5` with deletions, and do not know the newer
 *   checksum headers
 */
export function addHeaders(client: S3Client, { needsMd5 }: { needsMd5: boolean }): void {
  client.middlewareStack.add(
    (next, context) => (args) => {
      const { input, request } = args as unknown as Building;
      const digest = input.Body instanceof Uint8Array ? digests.get(input.Body) : undefined;
      if (digest) request.headers['x-amz-content-sha256'] = Buffer.from(digest).toString('hex');
      if (needsMd5 && context.commandName === 'DeleteObjectsCommand') {
        const others = Object.entries(request.headers).filter(
          ([name]) => !/^x-amz-(?:sdk-)?checksum-/i.test(name),
        );
        request.headers = {
          ...Object.fromEntries(others),
          'content-md5': hash('md5', request.body, 'base64'),
        };
      }
      return next(args);
    },
    { step: 'build', name: 'nicheHeaders', priority: 'low', override: true },
  );
}
