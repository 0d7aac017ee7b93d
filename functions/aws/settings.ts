import * as z from 'zod';

import { deploymentSettings, readSettings } from '../shared/settings.ts';
import type { Environment } from '../shared/settings.ts';

const awsSettings = deploymentSettings.extend({
  /** The `Cache` dimension of this deployment's metrics. */
  NICHE_CACHE: z.string().min(1).max(255),
  /** The URL of the queue that receives S3's events and niche's own jobs. */
  NICHE_QUEUE_URL: z.url(),
  /** The URL of the queue of paths that the sweep withdraws. */
  NICHE_WITHDRAWALS_URL: z.url(),
  NICHE_STAGING: z.string().regex(/^s3:\/\/[^/?#]+/, { error: 'expected s3://bucket/prefix' }),
});

export type AwsSettings = z.infer<typeof awsSettings>;

/** @throws NicheError `malformed-config` */
export function readAwsSettings(env: Environment): AwsSettings {
  return readSettings(awsSettings, env);
}
