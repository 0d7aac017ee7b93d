import assert from 'node:assert/strict';
import { deniedAsMissing } from '../../core/cache/denied-as-missing.ts';
import { after, describe, it } from 'node:test';
import { isNicheError } from '../../core/errors.ts';
import { openS3Bucket } from '../../core/storage/s3/driver.ts';
import { partBytes } from '../../core/storage/s3/multipart-upload.ts';
import { parseS3Url, s3PublicUrl } from '../../core/storage/s3/url.ts';
import type { S3Options } from '../../core/storage/s3/client.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { listKeys, patternBytes } from '../support/assert/bytes.ts';
import {
  firstFaults,
  startFaultProxy,
  type Fault,
  type FaultProxy,
  type ProxiedRequest,
} from '../support/servers/fault-proxy.ts';
import {
  startS3Server,
  whyNoS3,
  type S3Server,
  type S3ServerName,
} from '../support/servers/s3-servers.ts';
import { bucketConformance } from './conformance.ts';
import { storageFaults } from './faults.ts';

/**
 * URL parameters for any server, for one with the newer checksums, and for one without conditional
 * writes; each with the conformance cases that they affect.
 */
const variants = {
  plain: { parameters: '', only: /./ },
  checksums: {
    parameters: '&provider=minio',
    only: /declared|part|commits in parts|left|deletes many/,
  },
  unconditional: { parameters: '&conditional=no', only: /was read|commit|parts/ },
};

const quick = { maxAttempts: 3, firstBackoffMs: 10, maxBackoffMs: 50 };

const s3Error = (code: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`;
const xml = { 'content-type': 'application/xml' };

/** Tests the S3 driver on the server `name`. */
export function s3Suites(
  name: S3ServerName,
  { isBrief, except }: { readonly isBrief: boolean; readonly except?: RegExp },
): void {
  describe(`S3 on ${name}`, { skip: whyNoS3(name) }, () => {
    let starting: Promise<S3Server> | undefined;
    after(async () => (await starting)?.stop());

    async function started(): Promise<S3Server> {
      starting ??= startS3Server(name);
      return starting;
    }

    function open(server: S3Server, url: string, options: S3Options = {}): Bucket {
      return openS3Bucket(parseS3Url(url), { credentials: server.credentials, ...options });
    }

    for (const [variant, { parameters, only }] of Object.entries(variants)) {
      const opened = async () => {
        const server = await started();
        const url = `${await server.emptyUrl()}${parameters}`;
        return {
          bucket: open(server, url),
          close: () => Promise.resolve(),
          partBytes,
          publicUrl: s3PublicUrl(parseS3Url(url))!,
          again: () => open(server, url),
        };
      };
      if (isBrief && variant !== 'plain') continue;
      bucketConformance(`S3 on ${name} (${variant})`, opened, { only, ...(except && { except }) });
    }

    it('treats 403 as “missing” for narinfos, while nix-cache-info is readable', async (t) => {
      const server = await started();
      const proxy = await startFaultProxy(server.endpoint);
      t.after(() => proxy.stop());
      const bucket = deniedAsMissing(
        open(server, await server.emptyUrl(proxy.url), { retry: quick }),
      );
      const refusal = { status: 403, headers: xml, body: s3Error('AccessDenied') };
      proxy.inject(({ path }) =>
        /absent|nar\/there/.test(path) ? { kind: 'answer', ...refusal } : null,
      );
      const denied = { code: 'storage-denied' };
      await assert.rejects(bucket.head('absent.narinfo'), denied);
      await bucket.put('nix-cache-info', Buffer.from('StoreDir: /nix/store\n'));
      assert.equal(await bucket.head('absent.narinfo'), null);
      assert.equal(await bucket.get('absent.narinfo'), null);
      await assert.rejects(bucket.head('nar/there'), denied);
      // Expired credentials deny everything.
      proxy.inject(() => ({ kind: 'answer', ...refusal, body: s3Error('ExpiredToken') }));
      await assert.rejects(bucket.head('absent.narinfo'), denied);
      await assert.rejects(bucket.get('absent.narinfo'), denied);
    });

    it('does not treat an HTML page as an empty listing', async (t) => {
      const server = await started();
      const proxy = await startFaultProxy(server.endpoint);
      t.after(() => proxy.stop());
      const bucket = open(server, await server.emptyUrl(proxy.url), { retry: quick });
      proxy.inject(() => ({
        kind: 'answer',
        status: 200,
        headers: { 'content-type': 'text/html' },
        body: '<html><body>Sign on to this network</body></html>',
      }));
      await assert.rejects(listKeys(bucket), { code: 'storage-unavailable' });
    });

    it('determines the result of an upload from any response to its completion', async (t) => {
      const server = await started();
      const proxy = await startFaultProxy(server.endpoint);
      t.after(() => proxy.stop());
      const bucket = open(server, await server.emptyUrl(proxy.url), { retry: quick });
      const isEnd = ({ method, path }: ProxiedRequest): boolean =>
        method === 'POST' && path.includes('uploadId=');
      const end = async (key: string, decide: Parameters<FaultProxy['inject']>[0]) => {
        const upload = await bucket.upload(key);
        await upload.write(patternBytes(partBytes + 1));
        proxy.inject(decide);
        try {
          return await upload.commit({ ifAbsent: true });
        } finally {
          proxy.inject(() => null);
          await upload.abort();
        }
      };
      const failed = (code: string): Fault => ({
        kind: 'answer',
        status: 200,
        headers: xml,
        body: `${s3Error(code)}\n`,
      });
      assert.equal(await end('a', firstFaults(1, failed('InternalError'), isEnd)), 'created');
      const down = { code: 'storage-unavailable' };
      await assert.rejects(
        end('b', (each) => (isEnd(each) ? failed('InternalError') : null)),
        down,
      );
      assert.equal(await bucket.head('b'), null);
      const cut = s3Error('PreconditionFailed');
      const unmet: Fault = { kind: 'answer', status: 200, headers: xml, body: cut };
      assert.equal(await end('c', (each) => (isEnd(each) ? unmet : null)), 'exists');
      // A sweep removes the remaining parts of an upload that lost the race.
      const denied: Fault = { kind: 'answer', status: 403, headers: xml };
      await bucket.put('e', Buffer.from('first'));
      const kept = await end('e', (each) => (each.method === 'DELETE' ? denied : null));
      assert.equal(kept, 'exists');
      // A create-only writer cannot check whether the object exists.
      const lost = firstFaults(1, { kind: 'lost' }, isEnd);
      const outcome = await end('d', (each) => (each.method === 'HEAD' ? denied : lost(each)));
      assert.match(outcome, /^(?:created|exists)$/);
      assert.equal((await bucket.head('d'))?.size, partBytes + 1);
    });

    it('does not touch unfinished uploads of other keys', async () => {
      const server = await started();
      const bucket = open(server, await server.emptyUrl());
      const upload = await bucket.upload('theirs/object');
      await upload.write(patternBytes(partBytes + 1));
      const soon = new Date(Date.now() + 3_600_000);
      assert.equal(await bucket.sweepUploads?.('ours/', soon), 0);
      await upload.commit();
      assert.deepEqual(await listKeys(bucket), ['theirs/object']);
    });

    it('reports errors of a bucket, a key, an endpoint or its scheme', async () => {
      const server = await started();
      const url = server.url(await server.createBucket());
      const key = server.credentials;
      for (const [where, credentials, code, message, hint] of [
        [server.url('no-such-bucket'), key, 'storage-unavailable', /no such bucket/, /--create/],
        [
          url,
          { ...key, accessKeyId: 'nobody' },
          'storage-denied',
          /does not know this access key|access denied/,
          /AWS_ACCESS_KEY_ID|credentials/,
        ],
        [
          url,
          { ...key, secretAccessKey: 'wrong' },
          'storage-denied',
          /secret key does not belong|access denied/,
          /AWS_SECRET_ACCESS_KEY|credentials/,
        ],
        [url.replace('http:', 'https:'), key, 'storage-unavailable', /SSL|TLS|EPROTO/i, /http:/],
        [
          's3://acme?endpoint=http://127.0.0.1:1',
          key,
          'storage-unavailable',
          /ECONNREFUSED/,
          /running/,
        ],
      ] as const) {
        const bucket = open(server, where, { credentials, retry: quick });
        for (const attempt of [() => bucket.get('x'), () => bucket.put('x', Buffer.from('x'))]) {
          await assert.rejects(attempt, (error) => {
            assert.ok(isNicheError(error, code), String(error));
            assert.match(error.message, message);
            assert.match(error.hint ?? '', hint);
            assert.ok(!error.message.includes('\n'));
            return true;
          });
        }
        if (!where.includes('no-such')) continue;
        for (const attempt of [
          () => bucket.head('x'),
          () => bucket.put('x', Buffer.from('x'), { ifAbsent: true }),
          // One of the two servers reports a missing bucket only as a failed condition.
          ...(isBrief ? [] : [() => bucket.replace('x', Buffer.from('x'), '"x"')]),
          () => bucket.delete(['x', 'y']),
          () => listKeys(bucket),
        ]) {
          await assert.rejects(attempt, { code }, String(attempt));
        }
      }
    });

    // Network faults depend only on the driver, so one server is enough.
    if (isBrief) return;
    storageFaults(`S3 on ${name}`, async () => {
      const server = await started();
      return {
        origin: server.endpoint,
        async open(through, idleTimeoutMs) {
          return open(server, await server.emptyUrl(through), { idleTimeoutMs, retry: quick });
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
