import type { InvocationContext } from '@azure/functions';

import packageJson from '../../package.json' with { type: 'json' };
import { azureKvIdentity } from '../../core/secrets/azure-kv.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openBucket } from '../../core/storage/open.ts';
import { parseAzureUrl } from '../../core/storage/azure/url.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { createDeployment } from '../shared/deployment.ts';
import type { Deployment } from '../shared/deployment.ts';
import { createLog } from '../shared/log.ts';
import type { Log } from '../shared/log.ts';
import type { Environment } from '../shared/settings.ts';
import { createCounter, tallyRecord } from '../shared/tally.ts';
import type { Counter } from '../shared/tally.ts';
import { openStorageQueue } from './queue.ts';
import { readAzureSettings } from './settings.ts';
import { vaultClients } from './vault.ts';

/** As much of the runtime's context as is used: its log belongs to the invocation. */
export type Context = Pick<InvocationContext, 'invocationId' | 'triggerMetadata'> &
  Record<'info' | 'warn' | 'error', (line: string) => void>;

/** What the functions are on Azure, made once for all invocations of a process. */
export interface AzureRuntime {
  readonly deployment: Deployment;
  readonly root: TriggerRoot;
  /** Runs an invocation; afterwards what it counted is logged, however it ended. */
  invoke<T>(
    context: Context,
    fields: object,
    work: (log: Log, counter: Counter) => Promise<T>,
  ): Promise<T>;
}

/** @throws NicheError `malformed-config` */
export function createAzureRuntime(env: Environment): AzureRuntime {
  const settings = readAzureSettings(env);
  const { account, container, prefix } = parseAzureUrl(settings.NICHE_PRIVATE);
  const app = env['WEBSITE_SITE_NAME'] ?? 'local';
  const connectionString = settings.AZURE_STORAGE_CONNECTION_STRING;
  const open = (url: string): Bucket =>
    openBucket(
      url,
      connectionString === undefined ? {} : { credentials: { kind: 'azure', connectionString } },
    );
  return {
    // As Event Grid's events are read: the account and the container.
    root: { bucket: `${account}/${container}`, prefix },
    deployment: createDeployment({
      settings,
      buckets: { public: open(settings.NICHE_PUBLIC), private: open(settings.NICHE_PRIVATE) },
      identities: [azureKvIdentity(vaultClients(settings.NICHE_VAULT))],
      queue: openStorageQueue({
        name: settings.NICHE_WORK_QUEUE,
        connectionString: settings.NICHE_QUEUE,
        serviceUrl: settings.NICHE_QUEUE__queueServiceUri,
      }),
      version: `niche ${packageJson.version} (${app})`,
    }),
    async invoke(context, fields, work) {
      // Application Insights keeps the level and the invocation; the record is the message.
      const log = createLog(({ level, ...record }) => {
        context[level](JSON.stringify(record));
      }, fields);
      const counter = createCounter();
      try {
        return await work(log, counter);
      } finally {
        log.info('done', tallyRecord(counter.tally()));
      }
    },
  };
}
