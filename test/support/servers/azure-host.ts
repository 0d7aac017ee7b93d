import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import type { QueueServiceClient } from '@azure/storage-queue';
import type { InvocationRequest, WorkerMessage } from './azure-worker-child.ts';

/** The parts of host.json that the host reads. */
const maxDequeueCount = 5;

/**
 * A host of Azure Functions for queue triggers and timers. It starts a worker, dequeues messages,
 * invokes functions with the documented metadata, and deletes, returns or sets aside each message.
 *
 * @see https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue-trigger
 */
export interface AzureHost {
  /** The registered functions of the app: the type of the trigger, by the name of the function. */
  readonly triggers: ReadonlyMap<string, Readonly<Record<string, unknown>>>;
  readonly logs: readonly { readonly level: string; readonly message: string }[];
  /**
   * Delivers one message of the queue that triggers `name`.
   *
   * @returns null when there is none; `lost` when the worker died
   */
  dequeue(name: string): Promise<'done' | 'again' | 'poison' | 'lost' | null>;
  /** Fires a timer. @returns the error of the function, if it failed */
  fire(name: string): Promise<string | null>;
  /** Kills the worker, as the runtime does after the time limit. The next call starts a new one. */
  kill(): void;
  stop(): Promise<void>;
}

export async function startAzureHost(options: {
  /** The file of the app: `main` in its package.json. */
  readonly app: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly queues: QueueServiceClient;
  /** Seconds until a failed message is delivered again: `visibilityTimeout` of host.json. */
  readonly retrySeconds: number;
}): Promise<AzureHost> {
  const { app, settings, queues, retrySeconds } = options;
  const logs: { level: string; message: string }[] = [];
  const triggers = new Map<string, Readonly<Record<string, unknown>>>();
  let worker: ChildProcess | undefined;

  async function start(): Promise<ChildProcess> {
    const script = join(import.meta.dirname, 'azure-worker-child.ts');
    const child = fork(script, [app], {
      // The flags of a test runner are not inherited.
      execArgv: [],
      env: settings,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    child.stderr?.on('data', (chunk: Buffer) =>
      logs.push({ level: 'stderr', message: String(chunk) }),
    );
    child.on('message', (message: WorkerMessage) => {
      if (message.kind === 'log') logs.push(message);
      if (message.kind !== 'registered') return;
      for (const { name, bindings } of message.functions) {
        triggers.set(
          name,
          Object.values(bindings).find(({ direction }) => direction === 'in') ?? {},
        );
      }
    });
    await new Promise<void>((resolve, reject) => {
      child.on('message', ({ kind }: WorkerMessage) => {
        if (kind === 'registered') resolve();
      });
      child.once('exit', () => {
        reject(new Error(`the worker ended: ${logs.map(({ message }) => message).join('\n')}`));
      });
    });
    return child;
  }

  /** @returns the function's error, or null; `undefined` when the worker died */
  async function invoke(
    name: string,
    input: string,
    triggerMetadata: InvocationRequest['triggerMetadata'],
  ): Promise<string | null | undefined> {
    if (worker?.exitCode !== null || worker.signalCode !== null) worker = await start();
    const child = worker;
    const invocationId = randomUUID();
    const { name: binding } = triggers.get(name) as { name: string };
    const request: InvocationRequest = {
      ...{ invocationId, name, triggerMetadata },
      inputData: [{ name: binding, data: { string: input } }],
    };
    return new Promise((resolve) => {
      const hear = (message: WorkerMessage): void => {
        if (message.kind !== 'response' || message.invocationId !== invocationId) return;
        child.off('exit', die);
        child.off('message', hear);
        resolve(message.error);
      };
      const die = (): void => {
        resolve(undefined);
      };
      child.on('message', hear);
      child.once('exit', die);
      child.send(request);
    });
  }

  /** Replaces a name in percent signs with the setting of the app. */
  const resolveSettings = (text: string): string =>
    text.replace(/%(\w+)%/g, (_, name: string) => settings[name] ?? '');

  worker = await start();
  return {
    triggers,
    logs,
    async dequeue(name) {
      const trigger = triggers.get(name) as { queueName: string };
      const queueName = resolveSettings(trigger.queueName);
      const queue = queues.getQueueClient(queueName);
      const { receivedMessageItems } = await queue.receiveMessages({
        numberOfMessages: 1,
        visibilityTimeout: 600,
      });
      const [message] = receivedMessageItems;
      if (!message) return null;
      const { messageId, popReceipt, dequeueCount, messageText } = message;
      const body = Buffer.from(messageText, 'base64').toString();
      const error = await invoke(name, body, {
        QueueTrigger: { string: body },
        DequeueCount: { string: String(dequeueCount) },
        ExpirationTime: { string: message.expiresOn.toISOString() },
        Id: { string: messageId },
        InsertionTime: { string: message.insertedOn.toISOString() },
        NextVisibleTime: { string: message.nextVisibleOn.toISOString() },
        PopReceipt: { string: popReceipt },
      });
      if (error === null) {
        await queue.deleteMessage(messageId, popReceipt);
        return 'done';
      }
      if (dequeueCount >= maxDequeueCount) {
        await queues.getQueueClient(`${queueName}-poison`).sendMessage(messageText);
        await queue.deleteMessage(messageId, popReceipt);
        return 'poison';
      }
      await queue.updateMessage(messageId, popReceipt, messageText, retrySeconds);
      return error === undefined ? 'lost' : 'again';
    },
    async fire(name) {
      const now = new Date().toISOString();
      const timer = {
        Schedule: { AdjustForDST: true },
        ScheduleStatus: { Last: now, LastUpdated: now, Next: now },
        IsPastDue: false,
      };
      const error = await invoke(name, JSON.stringify(timer), {});
      return error === undefined ? 'the worker died' : error;
    },
    kill() {
      worker?.kill('SIGKILL');
    },
    async stop() {
      if (worker?.exitCode !== null || worker.signalCode !== null) return;
      const ended = once(worker, 'exit');
      worker.kill('SIGKILL');
      await ended;
    },
  };
}
