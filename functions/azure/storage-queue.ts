import type { QueueClient } from '@azure/storage-queue';

import { NicheError, messageOf } from '../../core/errors.ts';
import { createRetrier } from '../../core/util/retry.ts';
import type { Failure } from '../../core/util/retry.ts';
import type { TaskQueue } from '../shared/deployment.ts';
import { taskMessage } from '../shared/task.ts';

/** How the queue is reached: by a connection string, or by the identity of the function. */
export interface QueuePlace {
  readonly name: string;
  readonly connectionString?: string | undefined;
  /** As `https://account.queue.core.windows.net/`. */
  readonly serviceUrl?: string | undefined;
}

/** Methods throw NicheError `storage-unavailable`, `storage-denied`. */
export function openStorageQueue(place: QueuePlace): TaskQueue {
  const { name, connectionString, serviceUrl = '' } = place;
  const pace = createRetrier({ maxConcurrency: 16 });
  let opened: Promise<QueueClient> | undefined;

  async function open(): Promise<QueueClient> {
    const { QueueClient: Client } = await import('@azure/storage-queue');
    // Retries are the pace's: the SDK's own would multiply them.
    const options = { retryOptions: { maxTries: 1 } };
    if (connectionString !== undefined) return new Client(connectionString, name, options);
    const { DefaultAzureCredential } = await import('@azure/identity');
    return new Client(
      `${serviceUrl.replace(/\/+$/, '')}/${name}`,
      new DefaultAzureCredential(),
      options,
    );
  }

  async function request<T>(action: string, send: (queue: QueueClient) => Promise<T>): Promise<T> {
    return pace.run({
      action,
      attempt: async () => send(await (opened ??= open())),
      explain: (error) => explain(error, action, name),
    });
  }

  return {
    async send(task) {
      // base64, as the runtime expects it unless host.json says otherwise.
      const body = Buffer.from(JSON.stringify(taskMessage(task))).toString('base64');
      await request('sending to', (queue) => queue.sendMessage(body));
    },
    async isEmpty() {
      const { approximateMessagesCount = 0 } = await request('asking for the length of', (queue) =>
        queue.getProperties(),
      );
      return approximateMessagesCount === 0;
    },
  };
}

function explain(error: unknown, action: string, name: string): Failure {
  const { statusCode = 0, code = '' } = error as { statusCode?: number; code?: string };
  const isThrottled = statusCode === 429 || code === 'ServerBusy';
  const isFinal = statusCode >= 400 && statusCode < 500 && !isThrottled && statusCode !== 408;
  const failure = new NicheError(
    isFinal ? 'storage-denied' : 'storage-unavailable',
    `${action} the queue ${name}: ${[code, messageOf(error)].filter(Boolean).join(': ')}`,
    { cause: error },
  );
  return { kind: isThrottled ? 'throttled' : isFinal ? 'final' : 'transient', error: failure };
}
