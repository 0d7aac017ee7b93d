import packageJson from '../../package.json' with { type: 'json' };
import { openAwsKms } from '../../core/kms/aws.ts';
import { awsDataKeys, openAwsKmsFor } from '../../core/secrets/aws-kms.ts';
import type { OpenAwsKms } from '../../core/secrets/aws-kms.ts';
import { kmsIdentity } from '../../core/secrets/kms.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { createDeployment } from '../shared/deployment.ts';
import type { Deployment, DeploymentOptions } from '../shared/deployment.ts';
import { lazily, runInvocation } from '../shared/invocation.ts';
import { createLog } from '../shared/log.ts';
import { useNetworkSettings } from '../shared/network.ts';
import type { Reporting } from '../shared/log-outcomes.ts';
import type { Environment } from '../shared/settings.ts';
import { embeddedMetrics } from './embedded-metrics.ts';
import { openSqsQueue } from './sqs-queue.ts';
import type { SqsQueue } from './sqs-queue.ts';
import { readAwsSettings } from './settings.ts';

/** The used part of Lambda's context object. */
export interface LambdaContext {
  readonly awsRequestId: string;
  getRemainingTimeInMillis(): number;
}

/** The parts that all invocations of a process share. */
export interface AwsRuntime {
  readonly deployment: Deployment;
  /** The queue of the publish function. */
  readonly jobQueue: SqsQueue;
  /** The queue of the sweep function. */
  readonly withdrawalQueue: SqsQueue;
  readonly root: TriggerRoot;
  /** Runs an invocation, and writes its metrics even when `work` throws. */
  invoke<T>(context: LambdaContext, work: (reporting: Reporting) => Promise<T>): Promise<T>;
}

/** Replacements, for tests. By default everything is opened from the settings. */
export interface AwsOverrides {
  readonly jobQueue?: SqsQueue | undefined;
  readonly withdrawalQueue?: SqsQueue | undefined;
  readonly buckets?: DeploymentOptions['buckets'];
  readonly kms?: DeploymentOptions['kms'];
  /** Decrypts `niche.signing.json`. */
  readonly openKms?: OpenAwsKms | undefined;
}

/**
 * Creates the runtime from the function's settings.
 *
 * @param write receives each line of the log
 * @throws NicheError `malformed-config`
 */
export function createAwsRuntime(
  env: Environment,
  write: (line: string) => void,
  overrides: AwsOverrides = {},
): AwsRuntime {
  const settings = readAwsSettings(env);
  const jobQueue = overrides.jobQueue ?? openSqsQueue(settings.NICHE_QUEUE_URL);
  const withdrawalQueue = overrides.withdrawalQueue ?? openSqsQueue(settings.NICHE_WITHDRAWALS_URL);
  const name = env['AWS_LAMBDA_FUNCTION_NAME'] ?? 'local';
  const version = env['AWS_LAMBDA_FUNCTION_VERSION'] ?? '$LATEST';
  const openKms = overrides.openKms ?? openAwsKmsFor;
  return {
    jobQueue,
    withdrawalQueue,
    root: parseS3Url(settings.NICHE_STAGING),
    deployment: createDeployment({
      settings,
      buckets: overrides.buckets,
      kms: overrides.kms ?? { aws: openAwsKms() },
      // The document's role and profile are for people. The function has its own role.
      identities: [kmsIdentity(awsDataKeys(({ kind, arn }) => openKms({ kind, arn })))],
      queue: {
        send: (job) => (job.kind === 'withdraw' ? withdrawalQueue : jobQueue).send(job),
        isEmpty: () => jobQueue.isEmpty(),
      },
      version: `niche ${packageJson.version} (${name}:${version})`,
    }),
    invoke(context, work) {
      const writeJson = (document: object): void => {
        write(JSON.stringify(document));
      };
      const fields = { cache: settings.NICHE_CACHE, request: context.awsRequestId };
      return runInvocation(createLog(writeJson, fields), work, (metrics) => {
        embeddedMetrics(metrics, settings.NICHE_CACHE).forEach(writeJson);
      });
    },
  };
}

/** Returns the runtime of this process, created by its first invocation. */
export function lambdaRuntime(): () => AwsRuntime {
  // Not console.log: Lambda prefixes its lines, and a line of metrics must be JSON.
  const write = (line: string): void => void process.stdout.write(`${line}\n`);
  return lazily(() => {
    useNetworkSettings();
    return createAwsRuntime(process.env, write);
  });
}
