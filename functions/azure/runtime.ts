import type { InvocationContext } from '@azure/functions';

import packageJson from '../../package.json' with { type: 'json' };
import { openAzureKeyVault } from '../../core/kms/azure.ts';
import { azureDataKeys } from '../../core/secrets/azure-kv.ts';
import { kmsIdentity } from '../../core/secrets/kms.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { parseAzureUrl } from '../../core/storage/azure/url.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { createDeployment } from '../shared/deployment.ts';
import type { Deployment } from '../shared/deployment.ts';
import { runInvocation } from '../shared/invocation.ts';
import { createLog } from '../shared/log.ts';
import type { Reporting } from '../shared/log-outcomes.ts';
import type { Environment } from '../shared/settings.ts';
import { openStorageQueue } from './storage-queue.ts';
import { readAzureSettings } from './settings.ts';

/** The used part of the invocation's context. Its log belongs to the invocation. */
export type Context = Pick<InvocationContext, 'invocationId' | 'triggerMetadata'> &
  Record<'info' | 'warn' | 'error', (line: string) => void>;

/** The parts that all invocations of a process share. */
export interface AzureRuntime {
  readonly deployment: Deployment;
  readonly root: TriggerRoot;
  /** Runs an invocation, and logs its metrics even when `work` throws. */
  invoke<T>(
    context: Context,
    fields: object,
    work: (reporting: Reporting) => Promise<T>,
  ): Promise<T>;
}

/**
 * Creates the runtime from the app's settings.
 *
 * @throws NicheError `malformed-config`
 */
export function createAzureRuntime(env: Environment): AzureRuntime {
  const settings = readAzureSettings(env);
  const { account, container, prefix } = parseAzureUrl(settings.NICHE_STAGING);
  const app = env['WEBSITE_SITE_NAME'] ?? 'local';
  const connectionString = settings.AZURE_STORAGE_CONNECTION_STRING;
  const open = (url: string): Bucket =>
    openBucket(
      url,
      connectionString === undefined ? {} : { credentials: { kind: 'azure', connectionString } },
    );
  const vault = openAzureKeyVault({ vault: settings.NICHE_VAULT ?? null });
  return {
    // The form in which events of Event Grid identify the bucket: account and container.
    root: { bucket: `${account}/${container}`, prefix },
    deployment: createDeployment({
      settings,
      buckets: {
        public: open(settings.NICHE_PUBLIC),
        staging: open(settings.NICHE_STAGING),
        private: open(settings.NICHE_PRIVATE),
      },
      identities: [kmsIdentity(azureDataKeys(vault))],
      queue: openStorageQueue({
        name: settings.NICHE_WORK_QUEUE,
        withdrawals: settings.NICHE_WITHDRAWALS_QUEUE,
        connectionString: settings.NICHE_QUEUE,
        serviceUrl: settings.NICHE_QUEUE__queueServiceUri,
      }),
      version: `niche ${packageJson.version} (${app})`,
    }),
    invoke(context, fields, work) {
      // Application Insights records the level and the invocation itself.
      const log = createLog(({ level, ...record }) => {
        context[level](JSON.stringify(record));
      }, fields);
      return runInvocation(log, work);
    },
  };
}
