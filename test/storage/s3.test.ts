import { after, describe, it } from 'node:test';
import { openS3Bucket } from '../../core/storage/s3.ts';
import { partBytes } from '../../core/storage/s3-upload.ts';
import { parseS3Url, s3PublicUrl } from '../../core/storage/s3-url.ts';
import type { S3Options } from '../../core/storage/s3-session.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { s3ServerNames, startS3Server, whyNoS3, type S3Server } from '../support/s3-servers.ts';
import { bucketConformance } from './conformance.ts';
import { storageFaults } from './faults.ts';

/** What the URL adds: as any server, as one that takes the newer checksums, as one without conditions. */
const variants = { plain: '', checksums: '&provider=minio', unconditional: '&conditional=no' };

const quick = { maxAttempts: 3, firstBackoffMs: 10, maxBackoffMs: 50 };

const s3Error = (code: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`;
const xml = { 'content-type': 'application/xml' };

for (const name of s3ServerNames) {
  const why = whyNoS3(name);
  if (why !== null) {
    it(`S3 on ${name}`, { skip: why }, () => undefined);
    continue;
  }
  describe(`S3 on ${name}`, () => {
    let starting: Promise<S3Server> | undefined;
    after(async () => (await starting)?.stop());

    async function started(): Promise<S3Server> {
      starting ??= startS3Server(name);
      return starting;
    }

    function open(server: S3Server, url: string, options: S3Options = {}): Bucket {
      return openS3Bucket(parseS3Url(url), { credentials: server.credentials, ...options });
    }

    for (const [variant, parameters] of Object.entries(variants)) {
      bucketConformance(`S3 on ${name} (${variant})`, async () => {
        const server = await started();
        const url = `${await server.emptyUrl()}${parameters}`;
        return {
          bucket: open(server, url),
          close: () => Promise.resolve(),
          partBytes,
          // It lists parts without their checksums.
          forgetsParts: name === 'seaweedfs' && variant === 'checksums',
          publicUrl: s3PublicUrl(parseS3Url(url))!,
          again: () => open(server, url),
        };
      });
    }

    storageFaults(`S3 on ${name}`, async () => {
      const server = await started();
      return {
        origin: server.endpoint,
        async open(through, idleTimeoutMs) {
          return open(server, await server.emptyUrl(through), { idleTimeoutMs, pace: quick });
        },
        denied: { status: 403, headers: xml, body: s3Error('AccessDenied') },
        throttled: {
          status: 503,
          headers: { ...xml, 'retry-after': '0' },
          body: s3Error('SlowDown'),
        },
        down: { status: 500, headers: xml, body: s3Error('InternalError') },
        isAbout: (path, key) => path.split('?')[0]?.endsWith(`/${key}`) === true,
        largeBytes: 2 * partBytes + 5,
      };
    });
  });
}
