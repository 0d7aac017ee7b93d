import type { QueueClient } from '@azure/storage-queue';

import { messageOf } from '../../core/errors.ts';
import { openAzureIdentity } from '../../core/util/azure-identity.ts';
import { createRetrier } from '../../core/util/retry.ts';
import type { Failure } from '../../core/util/retry.ts';
import { formatJob } from '../shared/job.ts';
import type { JobQueue } from '../shared/job.ts';
import { failureKindOf, queueFailure } from '../shared/queue-failure.ts';

/** The queues, and how to connect: by a connection string, or by the function's identity. */
export interface StorageQueueOptions {
  readonly name: string;
  /** The queue of the paths to withdraw. */
  readonly withdrawals: string;
  readonly connectionString?: string | undefined;
  /** For example `https://account.queue.core.windows.net/`. */
  readonly serviceUrl?: string | undefined;
}

/** For one request, in milliseconds. */
const timeoutMs = 10_000;

/** Opens the deployment's queues in Azure Queue Storage. Connects on first use. */
export function openStorageQueue(options: StorageQueueOptions): JobQueue {
  const retrier = createRetrier({ maxConcurrency: 16 });
  const opened = new Map<string, Promise<QueueClient>>();

  async function connect(name: string): Promise<QueueClient> {
    const queue = opened.get(name) ?? open(options, name);
    opened.set(name, queue);
    return queue;
  }

  async function request<T>(
    action: string,
    name: string,
    send: (queue: QueueClient) => Promise<T>,
  ): Promise<T> {
    return retrier.run({
      action,
      attempt: async () => send(await connect(name)),
      explain: (error) => explain(error, `${action} the queue ${name}`),
    });
  }

  return {
    async send(job) {
      // The runtime expects base64: `messageEncoding` in host.json.
      const body = Buffer.from(JSON.stringify(formatJob(job))).toString('base64');
      const name = job.kind === 'withdraw' ? options.withdrawals : options.name;
      await request('sending to', name, (queue) => queue.sendMessage(body, timeLimit()));
    },
    async isEmpty() {
      const { approximateMessagesCount = 0 } = await request(
        'reading the length of',
        options.name,
        (queue) => queue.getProperties(timeLimit()),
      );
      return approximateMessagesCount === 0;
    },
  };
}

async function open(options: StorageQueueOptions, name: string): Promise<QueueClient> {
  const { connectionString, serviceUrl = '' } = options;
  const { QueueClient: Client } = await import('@azure/storage-queue');
  // The retrier retries. Retries of the SDK would multiply its attempts.
  const clientOptions = { retryOptions: { maxTries: 1 } };
  if (connectionString !== undefined) return new Client(connectionString, name, clientOptions);
  const queueUrl = `${serviceUrl.replace(/\/+$/, '')}/${name}`;
  return new Client(queueUrl, await openAzureIdentity(), clientOptions);
}

/** The SDK has no time limit of its own. */
function timeLimit(): { abortSignal: AbortSignal } {
  return { abortSignal: AbortSignal.timeout(timeoutMs) };
}

function explain(error: unknown, action: string): Failure {
  const { statusCode = 0, code = '' } = error as { statusCode?: number; code?: string };
  const kind = code === 'ServerBusy' ? 'throttled' : failureKindOf(statusCode);
  const reason = [code, messageOf(error)].filter(Boolean).join(': ');
  return queueFailure(kind, `${action}: ${reason}`, error);
}
