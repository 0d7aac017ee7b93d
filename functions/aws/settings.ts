import * as z from 'zod';

import { deploymentSettings, readSettings } from '../shared/settings.ts';
import type { Environment } from '../shared/settings.ts';

const awsSettings = deploymentSettings.extend({
  /** What metrics of this deployment are filed under. */
  NICHE_CACHE: z.string().min(1).max(255),
  /** The queue that S3's events and niche's own messages come by. */
  NICHE_QUEUE_URL: z.url(),
  NICHE_PRIVATE: z.string().regex(/^s3:\/\/[^/?#]+/, { error: 'expected s3://bucket/prefix' }),
});

export type AwsSettings = z.infer<typeof awsSettings>;

/** @throws NicheError `malformed-config` */
export function readAwsSettings(env: Environment): AwsSettings {
  return readSettings(awsSettings, env);
}
