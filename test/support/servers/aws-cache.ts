import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { SQSClient, GetQueueAttributesCommand, SendMessageCommand } from '@aws-sdk/client-sqs';
import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { openS3Bucket } from '../../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../../core/storage/s3/url.ts';
import { deploy, packageDeployment } from './aws-deployment.ts';
import type { PackagedDeployment, Stack } from './aws-deployment.ts';
import { runNiche } from '../lab/niche-process.ts';
import { requireMinistack } from './ministack.ts';
import type { Ministack } from './ministack.ts';

/** An AWS account for caches. */
export interface AwsAccount extends Ministack {
  /** A folder that is deleted after the test. */
  readonly folder: string;
  /** Deploys a stage and creates its cache, as docs/deploy/aws.md describes. */
  cache(stage: string, options?: AwsCacheOptions): Promise<AwsCache>;
}

export interface AwsCacheOptions {
  /** Parameters of serverless.yml. */
  readonly parameters?: Readonly<Record<string, string | number>>;
  /** More arguments for `niche init`. */
  readonly init?: readonly string[];
  readonly storeDir?: string;
}

/** A deployed cache. */
export interface AwsCache {
  readonly name: string;
  readonly stack: Stack;
  readonly packaged: PackagedDeployment;
  /** The URL for Nix. The bucket is in the path, since its host name does not resolve. */
  readonly substituter: string;
  readonly publicKey: string;
  /** The roots, with the credentials of the account's root user. */
  readonly public: Bucket;
  readonly staging: Bucket;
  readonly private: Bucket;
  /** The environment of a CI job that assumed the uploader's role. */
  asUploader(): Promise<Record<string, string>>;
  /** Calls a deployed function and returns its result. */
  invoke(name: 'publish' | 'sweep', event?: unknown): Promise<unknown>;
  send(body: string): Promise<void>;
  /** Counts the messages in the queue or in flight, and the dead letters. */
  messages(): Promise<{ queued: number; dead: number }>;
}

/** @returns null when the test was skipped and must return */
export async function requireAws(t: TestContext): Promise<AwsAccount | null> {
  const aws = await requireMinistack(t);
  if (!aws) return null;
  const folder = await mkdtemp(join(tmpdir(), 'niche-aws-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return { ...aws, folder, cache: (stage, options) => makeCache(aws, folder, stage, options) };
}

async function makeCache(
  aws: Ministack,
  folder: string,
  stage: string,
  options: AwsCacheOptions = {},
): Promise<AwsCache> {
  const { endpoint, region, credentials, accountId } = aws;
  const packaged = await packageDeployment(folder, stage, {
    uploaders: `arn:aws:iam::${accountId}:root`,
    ...options.parameters,
  });
  const stack = await deploy(aws, packaged);
  const { name, outputs } = stack;
  const output = (key: string): string => {
    const value = outputs[key];
    assert.ok(value, `the stack has no output ${key}`);
    return value;
  };
  const substituter = `${endpoint}/${parseS3Url(output('PublicStorage')).bucket}`;
  const made = await runNiche(
    [
      ...['init', output('PublicStorage')],
      ...['--staging', output('StagingStorage'), '--private', output('PrivateStorage')],
      ...['--signer', output('Signer'), '--substituter', substituter, '--name', name, '--json'],
      ...(options.storeDir === undefined ? [] : ['--store-dir', options.storeDir]),
      ...(options.init ?? ['--no-upstream']),
    ],
    { cwd: folder, env: { ...aws.env, HOME: folder } },
  );
  assert.equal(made.status, 0, made.stderr);
  const { publicKey } = JSON.parse(made.stdout) as { publicKey: string };

  const config = { endpoint, region, credentials };
  const open = (url: string): Bucket =>
    openS3Bucket({ ...parseS3Url(url), endpoint }, { credentials: { kind: 's3', ...credentials } });
  const [lambda, sqs, sts] = [
    new LambdaClient(config),
    new SQSClient(config),
    new STSClient(config),
  ];
  const count = async (QueueUrl: string): Promise<number> => {
    const { Attributes = {} } = await sqs.send(
      new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['All'] }),
    );
    return (
      Number(Attributes.ApproximateNumberOfMessages) +
      Number(Attributes.ApproximateNumberOfMessagesNotVisible)
    );
  };
  return {
    name,
    stack,
    packaged,
    substituter,
    publicKey,
    public: open(output('PublicStorage')),
    staging: open(output('StagingStorage')),
    private: open(output('PrivateStorage')),
    async asUploader() {
      const { Credentials } = await sts.send(
        new AssumeRoleCommand({ RoleArn: output('UploaderRoleArn'), RoleSessionName: 'ci-job' }),
      );
      return {
        AWS_ENDPOINT_URL: endpoint,
        AWS_REGION: region,
        AWS_ACCESS_KEY_ID: Credentials?.AccessKeyId ?? '',
        AWS_SECRET_ACCESS_KEY: Credentials?.SecretAccessKey ?? '',
        AWS_SESSION_TOKEN: Credentials?.SessionToken ?? '',
      };
    },
    async invoke(which, event = {}) {
      const { Payload, FunctionError } = await lambda.send(
        new InvokeCommand({ FunctionName: `${name}-${which}`, Payload: JSON.stringify(event) }),
      );
      const text = Buffer.from(Payload ?? []).toString('utf8');
      if (FunctionError !== undefined) throw new Error(`${which}: ${text}`);
      return text === '' ? null : (JSON.parse(text) as unknown);
    },
    async send(body) {
      await sqs.send(new SendMessageCommand({ QueueUrl: output('QueueUrl'), MessageBody: body }));
    },
    async messages() {
      return {
        queued: await count(output('QueueUrl')),
        dead: await count(output('DeadLettersUrl')),
      };
    },
  };
}
