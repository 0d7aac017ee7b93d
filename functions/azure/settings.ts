import * as z from 'zod';

import { deploymentSettings, readSettings } from '../shared/settings.ts';
import type { Environment } from '../shared/settings.ts';

/** The setting, or the prefix of the settings, with which the runtime connects to the queue. */
export const queueConnection = 'NICHE_QUEUE';

/** A deployment has two apps. Each has an identity of its own, and registers other functions. */
export type AppRole = 'publisher' | 'sweep';

const queueName = z.string().regex(/^[a-z0-9](?:-?[a-z0-9]){2,62}$/, {
  error: 'expected the name of a storage queue',
});

const azureSettings = deploymentSettings.extend({
  NICHE_STAGING: z.string().regex(/^azure:\/\/[^/?#]+\/[^/?#]+/, {
    error: 'expected azure://account/container/prefix',
  }),
  /** The queue that receives Event Grid's events and niche's own jobs. */
  NICHE_WORK_QUEUE: queueName,
  /** The queue by which publishers hand blocked paths to the sweep, which deletes them. */
  NICHE_WITHDRAWALS_QUEUE: queueName,
  /** The only vault that may decrypt `niche.signing.json`: `https://acme.vault.azure.net`. */
  NICHE_VAULT: z
    .string()
    .regex(/^https:\/\/[A-Za-z0-9.-]+(?::\d+)?$/, { error: 'expected https://….vault.azure.net' })
    .optional(),
  /** For the cache's account. @default the function's identity */
  AZURE_STORAGE_CONNECTION_STRING: z.string().optional(),
  /** A connection string for the queue's account. @default the function's identity */
  NICHE_QUEUE: z.string().optional(),
  NICHE_QUEUE__queueServiceUri: z.url().optional(),
});

export type AzureSettings = z.infer<typeof azureSettings>;

/**
 * Returns the role of this app.
 *
 * @throws NicheError `malformed-config`
 */
export function readAppRole(env: Environment): AppRole {
  return readSettings(z.object({ NICHE_ROLE: z.enum(['publisher', 'sweep']) }), env).NICHE_ROLE;
}

/** @throws NicheError `malformed-config` */
export function readAzureSettings(env: Environment): AzureSettings {
  return readSettings(azureSettings, env);
}
