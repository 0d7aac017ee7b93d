import { hash } from 'node:crypto';

import type { S3Client } from '@aws-sdk/client-s3';

/** Of bodies that are about to be sent, their SHA-256. */
const digests = new WeakMap<Uint8Array, Uint8Array>();

/** Signs `digest` as the body's SHA-256, so that every server checks it, and it is made only once. */
export function signDigest(body: Uint8Array, digest: Uint8Array): void {
  digests.set(body, digest);
}

/** What of a request that is being built is used; the SDK's own types are bound to each command's. */
interface Building {
  readonly input: { readonly Body?: unknown };
  readonly request: { headers: Record<string, string>; body: string | Uint8Array };
}

/**
 * Adds the headers that the SDK does not. To the client, not to each command: so the SDK puts together
 * once what all commands of a kind go through, which is a fifth of a small request's cost.
 *
 * @param demandsMd5 for servers that want the integrity header of before with deletions, and do not know
 *   the newer ones
 */
export function addHeaders(client: S3Client, { demandsMd5 }: { demandsMd5: boolean }): void {
  client.middlewareStack.add(
    (next, context) => (args) => {
      const { input, request } = args as unknown as Building;
      const digest = input.Body instanceof Uint8Array ? digests.get(input.Body) : undefined;
      if (digest) request.headers['x-amz-content-sha256'] = Buffer.from(digest).toString('hex');
      if (demandsMd5 && context.commandName === 'DeleteObjectsCommand') {
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
