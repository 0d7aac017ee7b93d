import * as z from 'zod';

import { deploymentSettings, readSettings } from '../shared/settings.ts';
import type { Environment } from '../shared/settings.ts';

/** Where Google publishes the keys of its identity tokens, as certificates by key id. */
const googleCertificates = 'https://www.googleapis.com/oauth2/v1/certs';

const googleSettings = deploymentSettings.extend({
  NICHE_PRIVATE: z.string().regex(/^gs:\/\/[^/?#]+/, { error: 'expected gs://bucket/prefix' }),
  /** The topic that niche's own messages come by. */
  NICHE_WAKE_TOPIC: z
    .string()
    .regex(/^projects\/[^/\s]+\/topics\/[^/\s]+$/, { error: 'expected projects/…/topics/…' }),
  /** The service account that alone may call the sweep. */
  NICHE_SWEEP_CALLER: z.email(),
  NICHE_SWEEP_CERTIFICATES: z.url().default(googleCertificates),
  /** Where Cloud KMS is asked, for signatures and for the key of `niche.signing.json`. */
  NICHE_KMS_ENDPOINT: z.url().default('https://cloudkms.googleapis.com'),
  /** Set where Pub/Sub is an emulator, as for Google's own clients: `host:port`, without credentials. */
  PUBSUB_EMULATOR_HOST: z.string().optional(),
});

export type GoogleSettings = z.infer<typeof googleSettings>;

/** @throws NicheError `malformed-config` */
export function readGoogleSettings(env: Environment): GoogleSettings {
  return readSettings(googleSettings, env);
}
