import * as z from 'zod';

import { deploymentSettings, readSettings } from '../shared/settings.ts';
import type { Environment } from '../shared/settings.ts';

/** The setting, or the first part of the settings, by which the runtime connects to the queue. */
export const queueConnection = 'NICHE_QUEUE';

const azureSettings = deploymentSettings.extend({
  NICHE_PRIVATE: z.string().regex(/^azure:\/\/[^/?#]+\/[^/?#]+/, {
    error: 'expected azure://account/container/prefix',
  }),
  /** The queue that Event Grid's events and niche's own messages come by. */
  NICHE_WORK_QUEUE: z.string().regex(/^[a-z0-9](?:-?[a-z0-9]){2,62}$/, {
    error: 'expected the name of a storage queue',
  }),
  /** The only vault whose keys decrypt `niche.signing.json`, as `https://acme.vault.azure.net`. */
  NICHE_VAULT: z
    .string()
    .regex(/^https:\/\/[A-Za-z0-9.-]+(?::\d+)?$/, { error: 'expected https://….vault.azure.net' })
    .optional(),
  /** The cache's account; else it is reached by the identity of the function. */
  AZURE_STORAGE_CONNECTION_STRING: z.string().optional(),
  /** A connection string; else the queue is reached by the identity of the function. */
  NICHE_QUEUE: z.string().optional(),
  NICHE_QUEUE__queueServiceUri: z.url().optional(),
});

export type AzureSettings = z.infer<typeof azureSettings>;

/** @throws NicheError `malformed-config` */
export function readAzureSettings(env: Environment): AzureSettings {
  return readSettings(azureSettings, env);
}
