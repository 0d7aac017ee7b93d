import { randomUUID } from 'node:crypto';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { CreateBucketCommand, PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Credentials } from '../../../core/storage/credentials.ts';
import { findProgram } from '../../setup/programs.ts';
import { freePorts } from './free-port.ts';
import { programPath, startFor, whyNo } from '../assert/required.ts';
import { until } from '../assert/until.ts';

const exec = promisify(execFile);

/** A real S3 server on 127.0.0.1, with its own directory. */
export interface S3Server {
  readonly name: S3ServerName;
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string;
  readonly region: string;
  /** Credentials that can do everything. */
  readonly credentials: S3Credentials;
  /** The same as variables, for programs that use the SDKs' credential chain, such as niche and nix. */
  readonly env: Readonly<Record<string, string>>;
  /** A client for operations that only tests need. */
  readonly admin: S3Client;
  /** `s3://bucket?…`, through `endpoint` if a proxy is in between. */
  url(bucket: string, endpoint?: string): string;
  /** Creates an empty bucket. @returns its name */
  createBucket(name?: string): Promise<string>;
  /** Returns the URL of an empty public prefix. On some servers, buckets are expensive. */
  emptyUrl(endpoint?: string): Promise<string>;
  /** Replaces the bucket's policy. */
  setPolicy(bucket: string, statements: readonly object[]): Promise<void>;
  /** Lets everyone read the bucket's objects. */
  publish(bucket: string): Promise<void>;
  /** Adds a user without any rights; only on versitygw. */
  addUser(name: string): Promise<S3Credentials>;
  stop(): Promise<void>;
}

export interface S3ServerOptions {
  /** Receives an event in S3's format for every created object; only on versitygw. */
  readonly webhookUrl?: string;
  /** The parent of its folder. @default the system's temporary folder */
  readonly folder?: string;
}

const region = 'us-east-1';
const root: S3Credentials = { kind: 's3', accessKeyId: 'root', secretAccessKey: 'root-secret' };

interface Launch {
  readonly args: readonly string[];
  readonly health: string;
}

interface Kind {
  /** The number of ports that it listens on; the first one is for S3. */
  readonly ports: number;
  launch(ports: readonly number[], folder: string, options: S3ServerOptions): Promise<Launch>;
}

const kinds = {
  versitygw: {
    ports: 1,
    async launch([port], folder, { webhookUrl }) {
      const [objects, users] = ['objects', 'users'].map((part) => join(folder, part));
      await Promise.all([mkdir(objects!), mkdir(users!)]);
      return {
        health: '/health',
        args: [
          ...['--port', `127.0.0.1:${port!}`, '--region', region, '--health', '/health'],
          ...['--access', root.accessKeyId, '--secret', root.secretAccessKey],
          ...['--iam-dir', users!, '--iam-cache-disable', '--quiet', '--keep-alive'],
          ...(webhookUrl === undefined ? [] : ['--event-webhook-url', webhookUrl]),
          ...['posix', objects!],
        ],
      };
    },
  },
  seaweedfs: {
    ports: 8,
    async launch(ports, folder) {
      const identities = join(folder, 's3.json');
      const { accessKeyId: accessKey, secretAccessKey: secretKey } = root;
      const identity = {
        name: 'root',
        credentials: [{ accessKey, secretKey }],
        actions: ['Admin'],
      };
      await writeFile(identities, JSON.stringify({ identities: [identity] }));
      const names = ['s3', 's3', 'master', 'master', 'volume', 'volume', 'filer', 'filer'];
      return {
        health: '/healthz',
        args: [
          ...['server', `-dir=${folder}`, '-ip=127.0.0.1', '-ip.bind=127.0.0.1'],
          ...['-filer', '-s3', `-s3.config=${identities}`, '-master.telemetry=false'],
          ...[
            '-volume.max=64',
            '-master.volumeSizeLimitMB=512',
            '-s3.iam=false',
            '-s3.autoCreateBucket=false',
          ],
          ...names.map(
            (name, index) => `-${name}.port${index % 2 === 0 ? '' : '.grpc'}=${ports[index]!}`,
          ),
        ],
      };
    },
  },
} as const satisfies Readonly<Record<string, Kind>>;

/** The servers of the driver's tests. */
export type S3ServerName = keyof typeof kinds;
export const s3ServerNames = Object.keys(kinds) as readonly S3ServerName[];

/** Returns an environment in which the AWS tools and SDKs use only `credentials`. */
export function awsEnv(credentials: S3Credentials): Record<string, string> {
  return {
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    AWS_REGION: region,
    AWS_DEFAULT_REGION: region,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
  };
}

/** Why a test of S3 is skipped here; see {@link whyNo}. */
export function whyNoS3(name: S3ServerName): string | false {
  return whyNo(name, findProgram(name));
}

/** Starts a server for one test; see {@link startFor}. */
export async function requireS3(
  t: TestContext,
  name: S3ServerName = 'versitygw',
  options: S3ServerOptions = {},
): Promise<S3Server | null> {
  return startFor(t, whyNoS3(name), () => startS3Server(name, options));
}

/** Starts a server. The caller must stop it. */
export async function startS3Server(
  name: S3ServerName,
  options: S3ServerOptions = {},
): Promise<S3Server> {
  const kind: Kind = kinds[name];
  const program = programPath(name);
  const folder = await mkdtemp(join(options.folder ?? tmpdir(), `niche-${name}-`));
  const ports = await freePorts(kind.ports);
  const endpoint = `http://127.0.0.1:${ports[0]!}`;
  const { args, health } = await kind.launch(ports, folder, options);
  const child = spawn(program, args, { cwd: folder, stdio: 'ignore' });
  const exited = once(child, 'exit');
  const admin = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId: root.accessKeyId, secretAccessKey: root.secretAccessKey },
  });
  const stop = async (): Promise<void> => {
    admin.destroy();
    child.kill('SIGKILL');
    await exited;
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await answering(`${endpoint}${health}`, () => child.exitCode !== null);
  } catch (error) {
    await stop();
    throw error;
  }
  const setPolicy: S3Server['setPolicy'] = async (bucket, statements) => {
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: statements });
    await admin.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  };
  const publish = (bucket: string): Promise<void> =>
    setPolicy(bucket, [
      {
        Effect: 'Allow',
        Principal: '*',
        Action: 's3:GetObject',
        Resource: `arn:aws:s3:::${bucket}/*`,
      },
    ]);
  const url = (bucket: string, through = endpoint): string =>
    `s3://${bucket}?region=${region}&endpoint=${through}`;
  const createBucket = async (bucket = `bucket-${randomUUID().slice(0, 8)}`): Promise<string> => {
    await admin.send(new CreateBucketCommand({ Bucket: bucket }));
    return bucket;
  };
  let shared: Promise<string> | undefined;
  let places = 0;
  return {
    name,
    endpoint,
    region,
    credentials: root,
    env: awsEnv(root),
    admin,
    url,
    createBucket,
    async emptyUrl(through) {
      places += 1;
      const prefix = `place-${places}`;
      const bucket = await (shared ??= createBucket().then(async (made) => {
        await publish(made);
        return made;
      }));
      return url(`${bucket}/${prefix}`, through);
    },
    setPolicy,
    publish,
    async addUser(user) {
      const secret = `${user}-secret`;
      await exec(program, [
        ...['admin', '--access', root.accessKeyId, '--secret', root.secretAccessKey],
        ...['--endpoint-url', endpoint, '--region', region],
        ...['create-user', '--access', user, '--secret', secret, '--role', 'user'],
      ]);
      return { kind: 's3', accessKeyId: user, secretAccessKey: secret };
    },
    stop,
  };
}

/** Waits until a server responds with success at `url`. */
async function answering(url: string, hasEnded: () => boolean): Promise<void> {
  await until(`a server answers at ${url}`, async () => {
    if (hasEnded()) throw new Error(`the server for ${url} ended at once`);
    const response = await fetch(url).catch(() => null);
    await response?.body?.cancel();
    return response?.ok === true;
  });
}
