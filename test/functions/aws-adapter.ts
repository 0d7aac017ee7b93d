import { createPublishHandler } from '../../functions/aws/publish-handler.ts';
import type { AwsRuntime, LambdaContext } from '../../functions/aws/runtime.ts';
import { createSweepHandler } from '../../functions/aws/sweep-handler.ts';
import type { LogRecord } from '../../functions/shared/log.ts';
import { createLog } from '../../functions/shared/log.ts';
import { createMetrics } from '../../functions/shared/metrics.ts';
import type { Adapter, Delivery } from './adapter-lab.ts';

export const awsAdapter: Adapter = {
  name: 'AWS',
  root: { bucket: 'acme-cache-staging', prefix: 'team/' },
  keepsNonsense: true,
  readRecord(line) {
    const record = JSON.parse(line) as LogRecord;
    return '_aws' in record ? null : record;
  },
  start({ deployment, write, timeLimitMs }) {
    const queue = { ...deployment.queue, retrySoon: () => Promise.resolve() };
    const runtime: AwsRuntime = {
      deployment,
      root: awsAdapter.root,
      jobQueue: queue,
      withdrawalQueue: queue,
      invoke(_context, work) {
        const log = createLog((record) => {
          write(JSON.stringify(record));
        });
        return work({ log, metrics: createMetrics() });
      },
    };
    const context = (): LambdaContext => {
      const end = performance.now() + timeLimitMs;
      return { awsRequestId: 'test', getRemainingTimeInMillis: () => end - performance.now() };
    };
    const publish = createPublishHandler(() => runtime);
    const sweep = createSweepHandler(() => runtime);
    return {
      async publish(delivery) {
        const { batchItemFailures } = await publish(sqsEvent(delivery), context());
        return batchItemFailures.length === 0 ? 'done' : 'again';
      },
      sweep: () =>
        sweep({}, context()).then(
          () => 'done',
          () => 'again',
        ),
    };
  },
};

function sqsEvent(delivery: Delivery): object {
  const body = delivery.kind === 'nonsense' ? 'no JSON at all' : JSON.stringify(bodyOf(delivery));
  return {
    Records: [
      {
        messageId: '059f36b4-87a3-44ab-83d2-661975830a7d',
        receiptHandle: 'AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a',
        body,
        attributes: { ApproximateReceiveCount: '1' },
        eventSource: 'aws:sqs',
      },
    ],
  };
}

function bodyOf(delivery: Exclude<Delivery, { kind: 'nonsense' }>): object {
  if (delivery.kind === 'message') return delivery.body;
  return {
    Records: [
      {
        eventVersion: '2.1',
        eventSource: 'aws:s3',
        awsRegion: 'eu-central-1',
        eventTime: new Date().toISOString(),
        eventName: 'ObjectCreated:Put',
        userIdentity: { principalId: 'AWS:AROAEXAMPLE:ci' },
        requestParameters: { sourceIPAddress: '192.0.2.7' },
        s3: {
          s3SchemaVersion: '1.0',
          bucket: { name: delivery.bucket, arn: `arn:aws:s3:::${delivery.bucket}` },
          object: { key: encodeURIComponent(delivery.key), size: 1024, eTag: delivery.etag },
        },
      },
    ],
  };
}
