import packageJson from '../../package.json' with { type: 'json' };
import { openGoogleKms } from '../../core/kms/google.ts';
import { googleDataKeys } from '../../core/secrets/gcp-kms.ts';
import { kmsIdentity } from '../../core/secrets/kms.ts';
import { parseGoogleUrl } from '../../core/storage/google/url.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { createDeployment } from '../shared/deployment.ts';
import type { Deployment } from '../shared/deployment.ts';
import { runInvocation } from '../shared/invocation.ts';
import { createLog } from '../shared/log.ts';
import type { Level, LogRecord } from '../shared/log.ts';
import type { Reporting } from '../shared/log-outcomes.ts';
import type { Environment } from '../shared/settings.ts';
import { createTokenCheck } from './scheduler-token.ts';
import type { TokenCheck } from './scheduler-token.ts';
import { readGoogleSettings } from './settings.ts';
import { openPubSubQueue } from './pubsub-queue.ts';

/** The parts that all invocations of a process share. */
export interface GoogleRuntime {
  readonly deployment: Deployment;
  readonly root: TriggerRoot;
  readonly checkToken: TokenCheck;
  /** Runs an invocation, and logs its metrics even when `work` throws. */
  invoke<T>(fields: object, work: (reporting: Reporting) => Promise<T>): Promise<T>;
}

const severities: Readonly<Record<Level, string>> = {
  info: 'INFO',
  warn: 'WARNING',
  error: 'ERROR',
};

/**
 * Formats a record for Cloud Logging, which reads `severity` and `time` from standard output.
 *
 * @see https://cloud.google.com/logging/docs/structured-logging
 */
export function structuredLine({ level, at, ...fields }: LogRecord): string {
  return JSON.stringify({ severity: severities[level], time: at, ...fields });
}

/**
 * Creates the runtime from the function's settings.
 *
 * @param write receives each line of the log
 * @throws NicheError `malformed-config`
 */
export function createGoogleRuntime(
  env: Environment,
  write: (line: string) => void,
): GoogleRuntime {
  const settings = readGoogleSettings(env);
  const kms = openGoogleKms({ endpoint: settings.NICHE_KMS_ENDPOINT });
  const service = env['K_SERVICE'] ?? 'local';
  const revision = env['K_REVISION'] ?? 'none';
  return {
    root: parseGoogleUrl(settings.NICHE_STAGING),
    checkToken: createTokenCheck({
      email: settings.NICHE_SWEEP_CALLER,
      certificates: settings.NICHE_SWEEP_CERTIFICATES,
    }),
    deployment: createDeployment({
      settings,
      kms: { google: kms },
      identities: [kmsIdentity(googleDataKeys(kms))],
      queue: openPubSubQueue(
        { wake: settings.NICHE_WAKE_TOPIC, withdrawals: settings.NICHE_WITHDRAWALS_TOPIC },
        { emulator: settings.PUBSUB_EMULATOR_HOST },
      ),
      version: `niche ${packageJson.version} (${service}:${revision})`,
    }),
    invoke(fields, work) {
      const log = createLog((record) => {
        write(structuredLine(record));
      }, fields);
      return runInvocation(log, work);
    },
  };
}
