import { readFileSync, readdirSync, readlinkSync, realpathSync } from 'node:fs';
import {
  GetFunctionConfigurationCommand,
  LambdaClient,
  UpdateFunctionConfigurationCommand,
} from '@aws-sdk/client-lambda';
import {
  GetBucketNotificationConfigurationCommand,
  PutBucketNotificationConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import type { NotificationConfiguration } from '@aws-sdk/client-s3';
import {
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SQSClient,
  SendMessageCommand,
  SetQueueAttributesCommand,
} from '@aws-sdk/client-sqs';
import { parseS3Url } from '../../../core/storage/s3/url.ts';
import type { AwsCache } from './aws-cache.ts';
import type { Ministack } from './ministack.ts';

/** Failures around a deployed cache, and how its operator reacts. */
export interface Adversity {
  /** Lets the functions use AWS at `endpoint` from now on, by a variable that every SDK reads. */
  reachAwsAt(endpoint: string): Promise<void>;
  /** Kills every process that runs a function. */
  killFunctions(): void;
  /** The environments of those processes. */
  functionEnvironments(): Map<string, string>[];
  /** Runs `work` while the bucket sends no events. */
  withoutEvents<T>(work: () => Promise<T>): Promise<T>;
  /** Sets `maxReceives`: after this many receives, a message becomes a dead letter. */
  setMaxReceives(count: number): Promise<void>;
  /** Moves the dead letters back. ministack lacks `aws sqs start-message-move-task`. */
  redrive(): Promise<number>;
}

export function createAdversity(aws: Ministack, cache: AwsCache): Adversity {
  const { endpoint, region, credentials } = aws;
  const config = { endpoint, region, credentials };
  const lambda = new LambdaClient(config);
  const sqs = new SQSClient(config);
  const s3 = new S3Client({ ...config, forcePathStyle: true });
  const { QueueUrl, DeadLettersUrl, StagingStorage = '' } = cache.stack.outputs;
  const { bucket: Bucket } = parseS3Url(StagingStorage);

  return {
    async reachAwsAt(url) {
      for (const name of ['publish', 'sweep']) {
        const FunctionName = `${cache.name}-${name}`;
        const { Environment } = await lambda.send(
          new GetFunctionConfigurationCommand({ FunctionName }),
        );
        const Variables = { ...Environment?.Variables, AWS_ENDPOINT_URL: url };
        await lambda.send(
          new UpdateFunctionConfigurationCommand({ FunctionName, Environment: { Variables } }),
        );
      }
    },
    killFunctions() {
      for (const pid of functionProcesses(aws.pid)) process.kill(pid, 'SIGKILL');
    },
    functionEnvironments() {
      return functionProcesses(aws.pid).map((pid) => {
        const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
        return new Map(
          variables.map((text) => {
            const at = text.indexOf('=');
            return [text.slice(0, at), text.slice(at + 1)];
          }),
        );
      });
    },
    async withoutEvents(work) {
      const { QueueConfigurations } = await s3.send(
        new GetBucketNotificationConfigurationCommand({ Bucket }),
      );
      const set = (NotificationConfiguration: NotificationConfiguration) =>
        s3.send(
          new PutBucketNotificationConfigurationCommand({ Bucket, NotificationConfiguration }),
        );
      await set({});
      const result = await work();
      await set({ QueueConfigurations });
      return result;
    },
    async setMaxReceives(count) {
      const { Attributes } = await sqs.send(
        new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['RedrivePolicy'] }),
      );
      const policy = JSON.parse(Attributes?.RedrivePolicy ?? '{}') as object;
      const RedrivePolicy = JSON.stringify({ ...policy, maxReceiveCount: count });
      await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { RedrivePolicy } }));
    },
    async redrive() {
      for (let moved = 0; ;) {
        const { Messages = [] } = await sqs.send(
          new ReceiveMessageCommand({ QueueUrl: DeadLettersUrl, MaxNumberOfMessages: 10 }),
        );
        if (Messages.length === 0) return moved;
        for (const { Body, ReceiptHandle } of Messages) {
          await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: Body }));
          await sqs.send(new DeleteMessageCommand({ QueueUrl: DeadLettersUrl, ReceiptHandle }));
          moved += 1;
        }
      }
    },
  };
}

/** Returns the processes of ministack's group that run this Node. */
function functionProcesses(group: number): number[] {
  const node = realpathSync(process.execPath);
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      if (!Number.isInteger(pid) || pid === process.pid) return false;
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        // State, parent and process group follow the name, which may contain any character.
        const [, , processGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return Number(processGroup) === group && readlinkSync(`/proc/${pid}/exe`) === node;
      } catch {
        return false; // The process has exited.
      }
    });
}
