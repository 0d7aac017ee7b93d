import * as z from 'zod';

import { deploymentSettings, readSettings } from '../shared/settings.ts';
import type { Environment } from '../shared/settings.ts';

/** The certificates of Google's identity tokens, by key id. */
const googleCertificates = 'https://www.googleapis.com/oauth2/v1/certs';

const topic = z
  .string()
  .regex(/^projects\/[^/\s]+\/topics\/[^/\s]+$/, { error: 'expected projects/…/topics/…' });

const googleSettings = deploymentSettings.extend({
  NICHE_STAGING: z.string().regex(/^gs:\/\/[^/?#]+/, { error: 'expected gs://bucket/prefix' }),
  /** The topic whose jobs `publish` receives. */
  NICHE_WAKE_TOPIC: topic,
  /** The topic whose jobs `sweep` receives, which alone may delete public objects. */
  NICHE_WITHDRAWALS_TOPIC: topic,
  /** The only service account that may call the sweep. */
  NICHE_SWEEP_CALLER: z.email(),
  NICHE_SWEEP_CERTIFICATES: z.url().default(googleCertificates),
  /** The endpoint of Cloud KMS, for signatures and for the key of `niche.signing.json`. */
  NICHE_KMS_ENDPOINT: z.url().default('https://cloudkms.googleapis.com'),
  /** `host:port` of a Pub/Sub emulator, which takes no credentials; Google's clients read it too. */
  PUBSUB_EMULATOR_HOST: z.string().optional(),
});

export type GoogleSettings = z.infer<typeof googleSettings>;

/** @throws NicheError `malformed-config` */
export function readGoogleSettings(env: Environment): GoogleSettings {
  return readSettings(googleSettings, env);
}
