import packageJson from '../../package.json' with { type: 'json' };
import { awsKmsIdentity, defaultAwsKmsClients } from '../../core/secrets/aws-kms.ts';
import type { AwsKmsClients } from '../../core/secrets/aws-kms.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { createDeployment } from '../shared/deployment.ts';
import type { Deployment, DeploymentOptions } from '../shared/deployment.ts';
import { createLog } from '../shared/log.ts';
import type { Log } from '../shared/log.ts';
import type { Environment } from '../shared/settings.ts';
import { createCounter } from '../shared/tally.ts';
import type { Counter } from '../shared/tally.ts';
import { embeddedMetrics } from './metrics.ts';
import { openSqsQueue } from './queue.ts';
import type { SqsQueue } from './queue.ts';
import { readAwsSettings } from './settings.ts';

/** What Lambda tells of an invocation. */
export interface LambdaContext {
  readonly awsRequestId: string;
  getRemainingTimeInMillis(): number;
}

/** What a function is on AWS, made once for all invocations of a process. */
export interface AwsRuntime {
  readonly deployment: Deployment;
  readonly queue: SqsQueue;
  readonly root: TriggerRoot;
  /** Runs an invocation; afterwards what it counted becomes metrics, however it ended. */
  invoke<T>(context: LambdaContext, work: (log: Log, counter: Counter) => Promise<T>): Promise<T>;
}

/** What may be handed in; else it is opened as the settings say. */
export interface AwsPorts {
  readonly queue?: SqsQueue | undefined;
  readonly buckets?: DeploymentOptions['buckets'];
  readonly signing?: DeploymentOptions['signing'];
  /** What decrypts `niche.signing.json`. */
  readonly kms?: AwsKmsClients | undefined;
}

/**
 * @param write takes a line of the log
 * @throws NicheError `malformed-config`
 */
export function createAwsRuntime(
  env: Environment,
  write: (line: string) => void,
  ports: AwsPorts = {},
): AwsRuntime {
  const settings = readAwsSettings(env);
  const queue = ports.queue ?? openSqsQueue(settings.NICHE_QUEUE_URL);
  const name = env['AWS_LAMBDA_FUNCTION_NAME'] ?? 'local';
  const version = env['AWS_LAMBDA_FUNCTION_VERSION'] ?? '$LATEST';
  const kms = ports.kms ?? defaultAwsKmsClients();
  return {
    queue,
    root: parseS3Url(settings.NICHE_PRIVATE),
    deployment: createDeployment({
      ...ports,
      settings,
      // A role or a profile that the document names is for people: the function has its own role.
      identities: [awsKmsIdentity(({ kind, arn }) => kms({ kind, arn }))],
      queue,
      version: `niche ${packageJson.version} (${name}:${version})`,
    }),
    async invoke(context, work) {
      const log = createLog(
        (record) => {
          write(JSON.stringify(record));
        },
        { cache: settings.NICHE_CACHE, request: context.awsRequestId },
      );
      const counter = createCounter();
      try {
        return await work(log, counter);
      } finally {
        for (const document of embeddedMetrics(counter.tally(), settings.NICHE_CACHE)) {
          write(JSON.stringify(document));
        }
      }
    },
  };
}

/**
 * The runtime of this process, made by its first invocation: importing a function must cost nothing,
 * and a setting that is wrong must be in the log of each invocation that it fails.
 */
export function lambdaRuntime(): () => AwsRuntime {
  let runtime: AwsRuntime | undefined;
  // Not console: Lambda puts a time and a name before its lines, and metrics must be JSON alone.
  const write = (line: string): void => void process.stdout.write(`${line}\n`);
  return () => (runtime ??= createAwsRuntime(process.env, write));
}
