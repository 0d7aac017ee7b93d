import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatConfig } from '../../../core/cache/config.ts';
import { blockedKey, manifestKey, narInfoKey, stagingPrefix } from '../../../core/cache/layout.ts';
import type { BatchId } from '../../../core/cache/layout.ts';
import { encryptSecret } from '../../../core/cache/keys/create.ts';
import { NicheError } from '../../../core/errors.ts';
import { formatSecretKey } from '../../../core/nix/keys.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { AwsKms } from '../../../core/kms/aws.ts';
import { awsDataKeys } from '../../../core/secrets/aws-kms.ts';
import type { OpenAwsKms } from '../../../core/secrets/aws-kms.ts';
import { wrapForKms } from '../../../core/secrets/kms.ts';
import type { AwsKmsRecipient } from '../../../core/secrets/recipient.ts';
import { createPublishHandler } from '../../../functions/aws/publish-handler.ts';
import type { SqsQueue } from '../../../functions/aws/sqs-queue.ts';
import { createAwsRuntime } from '../../../functions/aws/runtime.ts';
import { createSweepHandler } from '../../../functions/aws/sweep-handler.ts';
import { formatJob } from '../../../functions/shared/job.ts';
import type { Job } from '../../../functions/shared/job.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { checkInvariants } from '../../support/cache/invariants.ts';
import { auditRecords, createTestCache, testKey, testSigner } from '../../support/cache/kit.ts';
import type { TestCache } from '../../support/cache/kit.ts';
import { testPath } from '../../support/cache/paths.ts';
import { testKms } from '../adapter-lab.ts';

interface Line {
  readonly level?: string;
  readonly message?: string;
  readonly path?: string;
  readonly upload?: string;
  readonly code?: string;
  readonly _aws?: unknown;
  readonly [metric: string]: unknown;
}

/** Both functions on a cache in memory, with a queue that is never emptied. */
async function deployed(options: {
  readonly sign?: () => Promise<never>;
  readonly env?: Readonly<Record<string, string>>;
  readonly cache?: TestCache;
  readonly openKms?: OpenAwsKms | undefined;
}) {
  const cache = options.cache ?? createTestCache();
  await cache.public.put('niche.json', Buffer.from(formatConfig(cache.config)));
  const lines: Line[] = [];
  const sent: Job[] = [];
  const putOff: number[] = [];
  const withdrawals: Job[] = [];
  const queueOf = (jobs: Job[]): SqsQueue => ({
    send: (job) => Promise.resolve(void jobs.push(job)),
    isEmpty: () => Promise.resolve(true),
    retrySoon: (_handle, count) => Promise.resolve(void putOff.push(count)),
  });
  const good = testSigner('test-1');
  async function signed(text: string) {
    return { ...(await good.sign(text)), requestId: 'request-1' };
  }
  const env = {
    NICHE_CACHE: 'niche-test',
    NICHE_PUBLIC: 's3://public?region=x',
    NICHE_STAGING: 's3://staging/nix?region=x',
    NICHE_PRIVATE: 's3://private/nix?region=x',
    NICHE_SIGNERS: 'aws-kms:alias/test?name=test-1',
    NICHE_TIME_LIMIT_SECONDS: '900',
    NICHE_QUEUE_URL: 'https://sqs.example/1/niche-test',
    NICHE_WITHDRAWALS_URL: 'https://sqs.example/1/niche-test-withdrawals',
    AWS_LAMBDA_FUNCTION_NAME: 'niche-test-publish',
    ...options.env,
  };
  const runtime = createAwsRuntime(env, (line) => void lines.push(JSON.parse(line) as Line), {
    jobQueue: queueOf(sent),
    withdrawalQueue: queueOf(withdrawals),
    buckets: cache,
    kms: { aws: testKms({ ...good, sign: options.sign ?? signed }) },
    openKms: options.openKms,
  });
  const context = { awsRequestId: 'r-1', getRemainingTimeInMillis: () => 900_000 };
  const publish = createPublishHandler(() => runtime);
  return {
    cache,
    lines,
    sent,
    withdrawals,
    putOff,
    metric: (name: string) =>
      lines.filter((line) => line._aws !== undefined && name in line && !('Code' in line)).at(-1)?.[
        name
      ],
    invoke: (event: unknown, left = 900_000) =>
      publish(event, { ...context, getRemainingTimeInMillis: () => left }),
    sweep: (event: unknown = {}) => createSweepHandler(() => runtime)(event, context),
  };
}

function s3Event(id: BatchId, more: object = {}, eTag?: string): object {
  const key = encodeURIComponent(`nix/${manifestKey(id)}`).replaceAll('%2F', '/');
  return {
    Records: [
      {
        eventVersion: '2.1',
        eventSource: 'aws:s3',
        eventName: 'ObjectCreated:Put',
        eventTime: '2026-01-01T00:00:01.000Z',
        userIdentity: { principalId: 'AWS:AROAEXAMPLE:ci' },
        requestParameters: { sourceIPAddress: '192.0.2.7' },
        s3: { bucket: { name: 'staging' }, object: { key, size: 1, eTag } },
        ...more,
      },
    ],
  };
}

function sqs(...bodies: readonly (object | string)[]): object {
  return {
    Records: bodies.map((body, index) => ({
      messageId: `m-${index}`,
      receiptHandle: `h-${index}`,
      body: typeof body === 'string' ? body : JSON.stringify(body),
      attributes: { ApproximateReceiveCount: '3' },
      eventSource: 'aws:sqs',
    })),
  };
}

/** A KMS that returns its input, and records the recipients of its requests. */
function transparentKms() {
  const asked: AwsKmsRecipient[] = [];
  const client = {
    encrypt: (_key: string, plaintext: Uint8Array) => Promise.resolve(plaintext),
    decrypt: (_key: string, ciphertext: Uint8Array) => Promise.resolve(ciphertext),
    close: () => Promise.resolve(),
  } as unknown as AwsKms;
  const open: OpenAwsKms = (recipient) => {
    asked.push(recipient);
    return Promise.resolve(client);
  };
  return { asked, open };
}

describe('the publish function', () => {
  it('decrypts its key with its own role, and ignores those of the document', async () => {
    const kms = transparentKms();
    const recipient: AwsKmsRecipient = {
      kind: 'aws-kms',
      arn: 'arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
      role: 'arn:aws:iam::123456789012:role/people',
      profile: 'work',
    };
    const document = await encryptSecret(
      { version: 1, secretKeys: [formatSecretKey(testKey('test-1', 1))] },
      [recipient],
      { wrap: (_, dataKey) => wrapForKms(awsDataKeys(kms.open), recipient, dataKey) },
    );
    const { cache, invoke, metric } = await deployed({
      env: { NICHE_SIGNERS: 'secret-key:test-1' },
      openKms: kms.open,
    });
    await cache.private.put('niche.signing.json', Buffer.from(document));
    await invoke(sqs(s3Event(await cache.stage([await testPath('hello')]))));
    assert.equal(metric('Published'), 1);
    const { kind, arn } = recipient;
    assert.deepEqual(kms.asked, [recipient, { kind, arn }]);
  });

  const eventBridge = (id: BatchId, etag: string): object => ({
    version: '0',
    source: 'aws.s3',
    'detail-type': 'Object Created',
    time: '2026-01-01T00:00:01Z',
    detail: {
      bucket: { name: 'staging' },
      object: { key: `nix/${manifestKey(id)}`, size: 1, etag },
      requester: '123456789012',
      'source-ip-address': '192.0.2.7',
      reason: 'PutObject',
    },
  });
  const shapes: [string, (id: BatchId, etag: string) => object, string][] = [
    ['S3, through SQS', (id, etag) => sqs(s3Event(id, {}, etag)), 'AWS:AROAEXAMPLE:ci'],
    ['S3 itself', (id, etag) => s3Event(id, {}, etag), 'AWS:AROAEXAMPLE:ci'],
    ['EventBridge, through SQS', (id, etag) => sqs(eventBridge(id, etag)), '123456789012'],
    ['EventBridge itself', eventBridge, '123456789012'],
  ];
  for (const [from, shape, principal] of shapes) {
    it(`publishes the batch of an event of ${from}`, async () => {
      const { cache, invoke, lines, metric } = await deployed({});
      const [library, tool] = [await testPath('library'), await testPath('tool')];
      const id = await cache.stage([library, tool]);
      const { etag = '' } = (await cache.staging.head(manifestKey(id))) ?? {};
      assert.deepEqual(await invoke(shape(id, etag)), { batchItemFailures: [] });
      assert.deepEqual(
        lines
          .filter(({ message }) => message === 'published')
          .map(({ path, upload, level }) => [path, upload, level]),
        [library, tool].map(({ info }) => [info.path, id.upload, 'info']),
      );
      assert.deepEqual(
        [metric('Published'), metric('NarBytes'), metric('Rejected')],
        [2, library.nar.length + tool.nar.length, 0],
      );
      const [record] = await auditRecords(cache);
      assert.ok(record);
      const { origin } = record;
      assert.deepEqual([origin?.principal, origin?.sourceAddress], [principal, '192.0.2.7']);
      assert.deepEqual(
        record.signers.map(({ keyId, requestId }) => [keyId, requestId]),
        [['alias/test', 'request-1']],
      );
      assert.match(record.publisher, /^niche \S+ \(niche-test-publish:\$LATEST\)$/);
      await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
    });
  }

  it('believes no origin of an event about another manifest under the same key', async () => {
    const { cache, invoke } = await deployed({});
    const id = await cache.stage([await testPath('replaced')]);
    for (const etag of ['d41d8cd98f00b204e9800998ecf8427e', undefined]) {
      await invoke(sqs(s3Event(id, {}, etag)));
      await cache.stage([await testPath(`more-${etag}`)], { id });
    }
    await invoke(sqs(s3Event(id)));
    const records = await auditRecords(cache);
    assert.deepEqual(
      records.map(({ origin }) => origin),
      [null, null, null],
    );
  });

  it('accepts duplicates, S3’s test event, and events of other objects', async () => {
    const { cache, invoke, lines } = await deployed({});
    const id = await cache.stage([await testPath('hello')]);
    const test = { Service: 'Amazon S3', Event: 's3:TestEvent', Bucket: 'staging' };
    const elsewhere = s3Event(id, { s3: { bucket: { name: 'other' }, object: { key: 'x+%2B' } } });
    const deleted = s3Event(id, { eventName: 'ObjectRemoved:Delete' });
    const none = { batchItemFailures: [] };
    assert.deepEqual(await invoke(sqs(test, elsewhere, deleted, s3Event(id), s3Event(id))), none);
    assert.deepEqual(await invoke(sqs(s3Event(id))), none);
    assert.deepEqual(
      lines.flatMap(({ message }) => message ?? []),
      [
        'ignored: not a manifest of this cache',
        'ignored: not a manifest of this cache',
        'published',
        'handled already',
        'handled already',
      ],
    );
    assert.equal(lines[0]?.['key'], 'x +');
  });

  it('keeps only the malformed messages', async () => {
    const { cache, invoke, lines, metric, putOff } = await deployed({});
    const id = await cache.stage([await testPath('hello')]);
    const event = sqs('no JSON', s3Event(id), { niche: 1, resume: 'x' }, { some: 'thing' });
    assert.deepEqual(await invoke(event), {
      batchItemFailures: ['m-0', 'm-2', 'm-3'].map((itemIdentifier) => ({ itemIdentifier })),
    });
    assert.deepEqual([metric('Malformed'), metric('Published')], [3, 1]);
    const failures = lines.filter(({ level }) => level === 'error');
    assert.deepEqual(new Set(failures.map(({ code }) => code)), new Set(['malformed-event']));
    assert.deepEqual(putOff, [3, 3, 3]);
    await assert.rejects(invoke({ some: 'thing' }), { code: 'malformed-event' });
    await assert.rejects(invoke({ Records: [{ eventSource: 'aws:sqs' }] }), {
      code: 'malformed-event',
    });
  });

  it('keeps a message while the signer is unavailable, and retries soon', async () => {
    const down = new NicheError('signer-unavailable', 'KMS throttles');
    const { cache, invoke, metric, putOff } = await deployed({ sign: () => Promise.reject(down) });
    const id = await cache.stage([await testPath('hello')]);
    const { batchItemFailures } = await invoke(sqs(s3Event(id)));
    assert.deepEqual(batchItemFailures, [{ itemIdentifier: 'm-0' }]);
    assert.deepEqual([metric('Failed'), metric('Published'), putOff], [1, 0, [3]]);
    assert.equal((await listKeys(cache.staging, stagingPrefix)).length, 2);
    assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
  });

  it('retries after an unexpected error only at the visibility timeout, and counts a crash', async () => {
    const { cache, invoke, lines, putOff } = await deployed({
      sign: () => Promise.reject(new TypeError('a bug')),
    });
    const id = await cache.stage([await testPath('hello')]);
    for (let call = 0; call < 7; call += 1) {
      await invoke(sqs(s3Event(id)));
      cache.advance(901_000);
    }
    assert.deepEqual(putOff, []);
    const [path] = lines.filter(({ message }) => message === 'rejected');
    assert.equal(path?.code, 'failed');
    assert.deepEqual(await listKeys(cache.staging, stagingPrefix), []);
  });

  it('counts rejected paths by code', async () => {
    const { cache, invoke, lines } = await deployed({ env: { NICHE_BYTES_PER_SECOND: '0.1' } });
    const id = await cache.stage([await testPath('large')]);
    await invoke(sqs(s3Event(id)));
    assert.deepEqual(
      lines
        .filter((line) => 'Code' in line)
        .map(({ Cache, Code, Rejected }) => [Cache, Code, Rejected]),
      [['niche-test', 'too-large', 1]],
    );
  });

  it('hands on the rest of a job when the time is too short', async () => {
    const { cache, invoke, sent } = await deployed({ env: { NICHE_BYTES_PER_SECOND: '1' } });
    const id = await cache.stage([await testPath('first'), await testPath('second')]);
    const { etag = '' } = (await cache.staging.head(manifestKey(id))) ?? {};
    await invoke(sqs(s3Event(id, {}, etag)), 1_000);
    const origin = {
      via: 'event',
      principal: 'AWS:AROAEXAMPLE:ci',
      sourceAddress: '192.0.2.7',
      at: '2026-01-01T00:00:01.000Z',
    };
    assert.deepEqual(sent, [{ kind: 'publish', id, origin: { ...origin, etag } }]);
    await invoke(sqs(formatJob(sent[0]!)));
    assert.deepEqual(await listKeys(cache.staging, stagingPrefix), []);
    assert.deepEqual(
      (await auditRecords(cache)).map((record) => record.origin),
      [origin, origin],
    );
  });

  it('resumes waiting paths through the queue', async () => {
    const { cache, invoke, sent, lines } = await deployed({});
    const library = await testPath('library');
    const tool = await testPath('tool', { references: [library] });
    await invoke(sqs(s3Event(await cache.stage([tool]))));
    assert.equal(lines.find(({ message }) => message === 'waiting')?.['missing'], 1);
    await invoke(sqs(s3Event(await cache.stage([library]))));
    assert.equal(sent.length, 1);
    await invoke(sqs(formatJob(sent[0]!), formatJob(sent[0]!)));
    assert.equal(lines.filter(({ message }) => message === 'published').length, 2);
  });

  it('reports invalid settings, and does nothing', async () => {
    await assert.rejects(deployed({ env: { NICHE_QUEUE_URL: 'no' } }), {
      code: 'malformed-config',
    });
  });
});

describe('the sweep function', () => {
  it('resumes a path whose reference has arrived', async () => {
    const { cache, invoke, sweep, sent, lines, metric } = await deployed({});
    const library = await testPath('library');
    const tool = await testPath('tool', { references: [library] });
    await invoke(sqs(s3Event(await cache.stage([tool]))));
    await invoke(sqs(s3Event(await cache.stage([library]))));
    assert.equal(sent.length, 1); // and is lost
    await sweep();
    assert.equal(lines.filter(({ message }) => message === 'swept').length, 1);
    assert.equal(metric('Published'), 1);
    assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
  });

  it('withdraws what the publish function asks for, by a queue of its own', async () => {
    const { cache, invoke, sweep, sent, withdrawals } = await deployed({});
    const hello = await testPath('hello');
    const hash = storeHash(hello.info.path);
    await invoke(sqs(s3Event(await cache.stage([hello]))));
    // The administrator could not delete the narinfo, as it was created later.
    const record = { at: new Date().toISOString(), why: 'a test' };
    await cache.private.put(blockedKey(hash), Buffer.from(JSON.stringify(record)));
    await invoke(sqs(s3Event(await cache.stage([hello]))));
    assert.deepEqual([sent, withdrawals], [[], [{ kind: 'withdraw', storeHash: hash }]]);
    assert.deepEqual(await sweep(sqs(formatJob(withdrawals[0]!))), { batchItemFailures: [] });
    assert.equal(await cache.public.head(narInfoKey(hash)), null);
  });

  it('publishes no batch from its queue', async () => {
    const { cache, sweep, metric } = await deployed({});
    const id = await cache.stage([await testPath('hello')]);
    const publish = formatJob({ kind: 'publish', id, origin: { via: 'event' } });
    assert.deepEqual(await sweep(sqs(publish, s3Event(id))), {
      batchItemFailures: ['m-0', 'm-1'].map((itemIdentifier) => ({ itemIdentifier })),
    });
    assert.deepEqual([metric('Malformed'), metric('Published')], [2, 0]);
  });

  it('logs a storage failure, and fails', async () => {
    const { cache, lines, sweep } = await deployed({});
    await cache.public.delete(['niche.json']);
    await assert.rejects(sweep(), { code: 'not-a-cache' });
    assert.equal(lines.find(({ level }) => level === 'error')?.code, 'not-a-cache');
  });
});
