/**
 * Measures how long the bundled AWS function takes to start in a fresh process, and then to publish a
 * first small path. It uses a local AWS, whose requests take longer than real ones. Run it on an idle
 * machine.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { CreateQueueCommand, SQSClient } from '@aws-sdk/client-sqs';
import { formatConfig, parseConfig } from '../core/cache/config.ts';
import { manifestKey, stagedNarsKey } from '../core/cache/layout.ts';
import { formatManifest } from '../core/cache/manifest.ts';
import { newUploadId } from '../core/cache/upload-id.ts';
import { openAwsKms } from '../core/kms/aws.ts';
import { createSigningKey, readPublicKey } from '../core/signing/kms.ts';
import { openS3Bucket } from '../core/storage/s3/driver.ts';
import { parseS3Url } from '../core/storage/s3/url.ts';
import { testPath } from '../test/support/cache/paths.ts';
import { startMinistack } from '../test/support/servers/ministack.ts';
import { spread } from './result.ts';

const checkout = join(import.meta.dirname, '..');
const bundle = join(checkout, 'infra/aws/functions/publish.mjs');
const runs = 11;

/** Runs in the fresh process. */
const probe = `
const before = process.cpuUsage();
const begun = performance.now();
const { handler } = await import(process.argv[1]);
const readyMs = performance.now() - begun;
const { user, system } = process.cpuUsage(before);
process.stdout.write = () => true;
const context = { awsRequestId: 'bench', getRemainingTimeInMillis: () => 900_000 };
await handler(JSON.parse(process.argv[2]), context);
console.error(JSON.stringify({ readyMs, readyCpuMs: (user + system) / 1000, publishedMs: performance.now() - begun - readyMs }));
`;

execFileSync(process.execPath, ['scripts/functions.ts', 'aws'], { cwd: checkout });
const aws = await startMinistack({ iam: false });
try {
  const { endpoint, region, credentials } = aws;
  const config = { endpoint, region, credentials };
  const s3 = new S3Client({ ...config, forcePathStyle: true });
  for (const Bucket of ['bench-public', 'bench-staging', 'bench-private']) {
    await s3.send(new CreateBucketCommand({ Bucket }));
  }
  const { QueueUrl = '' } = await new SQSClient(config).send(
    new CreateQueueCommand({ QueueName: 'bench' }),
  );
  const kms = openAwsKms({ config });
  const key = await createSigningKey(kms, 'alias/bench', 'bench');
  const open = (bucket: string) =>
    openS3Bucket(
      { ...parseS3Url(`s3://${bucket}?region=${region}`), endpoint },
      { credentials: { kind: 's3', ...credentials } },
    );
  const [publicRoot, staging] = [open('bench-public'), open('bench-staging')];
  const cache = parseConfig(
    JSON.stringify({
      version: 1,
      name: 'bench',
      storeDir: '/nix/store',
      publicKeys: [await readPublicKey(kms, key, 'bench-1')],
      substituter: 'https://bench.test',
      storage: 's3://bench-public',
      staging: 's3://bench-staging',
      private: 's3://bench-private',
    }),
    'the bench',
  );
  await publicRoot.put('niche.json', Buffer.from(formatConfig(cache)));

  const ready: number[] = [];
  const readyCpu: number[] = [];
  const published: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    const path = await testPath(`cold-${run}`);
    const id = { upload: newUploadId(), batch: 0 };
    await staging.put(stagedNarsKey(id, 'none'), path.nar);
    const manifest = formatManifest({ encoding: 'none', paths: [path.info] });
    await staging.put(manifestKey(id), Buffer.from(manifest));
    const event = {
      Records: [
        {
          eventName: 'ObjectCreated:Put',
          s3: { bucket: { name: 'bench-staging' }, object: { key: manifestKey(id) } },
        },
      ],
    };
    const { stderr, status } = spawnSync(
      process.execPath,
      ['--no-warnings', '--input-type=module', '-e', probe, bundle, JSON.stringify(event)],
      {
        encoding: 'utf8',
        env: {
          ...aws.env,
          NICHE_CACHE: 'bench',
          NICHE_PUBLIC: `s3://bench-public?region=${region}`,
          NICHE_STAGING: `s3://bench-staging?region=${region}`,
          NICHE_PRIVATE: `s3://bench-private?region=${region}`,
          NICHE_SIGNERS: `aws-kms:${key}?name=bench-1`,
          NICHE_TIME_LIMIT_SECONDS: '900',
          NICHE_QUEUE_URL: QueueUrl,
          NICHE_WITHDRAWALS_URL: QueueUrl,
        },
      },
    );
    if (status !== 0) throw new Error(stderr);
    const measured = JSON.parse(stderr.trim().split('\n').at(-1) ?? '') as {
      readyMs: number;
      readyCpuMs: number;
      publishedMs: number;
    };
    ready.push(measured.readyMs);
    readyCpu.push(measured.readyCpuMs);
    published.push(measured.publishedMs);
  }
  const line = (what: string, values: readonly number[]): string => {
    const { median, min, max } = spread(values);
    return `${what}: ${median.toFixed(0)} ms (${min.toFixed(0)} to ${max.toFixed(0)})`;
  };
  console.log(`bundle: ${(statSync(bundle).size / 1024).toFixed(0)} KiB`);
  console.log(line('import to ready', ready));
  console.log(line('  of which CPU', readyCpu));
  console.log(line('first publish', published));
} finally {
  await aws.close();
}
