import { createPublishHandler, createSweepHandler } from '../../functions/azure/handlers.ts';
import type { AzureRuntime, Context } from '../../functions/azure/runtime.ts';
import type { LogRecord } from '../../functions/shared/log.ts';
import { createLog } from '../../functions/shared/log.ts';
import { createMetrics } from '../../functions/shared/metrics.ts';
import type { Adapter, Delivery, Verdict } from './adapter-lab.ts';
import { blobCreatedEvent } from './azure-events.ts';

export const azureAdapter: Adapter = {
  name: 'Azure',
  root: { bucket: 'acmecache/cache-staging', prefix: 'team/' },
  keepsNonsense: true,
  readRecord: (line) => JSON.parse(line) as LogRecord,
  start({ deployment, write }) {
    const runtime: AzureRuntime = {
      deployment,
      root: azureAdapter.root,
      invoke(_context, fields, work) {
        const log = createLog((record) => {
          write(JSON.stringify(record));
        }, fields);
        return work({ log, metrics: createMetrics() });
      },
    };
    const ignore = (): void => undefined;
    const context: Context = {
      invocationId: 'test',
      triggerMetadata: { id: 'message', dequeueCount: '1' },
      info: ignore,
      warn: ignore,
      error: ignore,
    };
    const verdictOf = (work: Promise<void>): Promise<Verdict> =>
      work.then(
        () => 'done',
        () => 'again',
      );
    const publish = createPublishHandler(() => runtime);
    const sweep = createSweepHandler(() => runtime);
    return {
      publish: (delivery) => verdictOf(publish(messageOf(delivery), context)),
      sweep: () => verdictOf(sweep({ isPastDue: false }, context)),
    };
  },
};

function messageOf(delivery: Delivery): unknown {
  switch (delivery.kind) {
    case 'object': {
      const [account = '', container = ''] = delivery.bucket.split('/');
      return blobCreatedEvent(account, container, delivery.key, delivery.etag);
    }
    case 'message':
      return delivery.body;
    case 'nonsense':
      return 'no JSON at all';
  }
}
