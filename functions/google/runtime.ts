import packageJson from '../../package.json' with { type: 'json' };
import { gcpKmsIdentity } from '../../core/secrets/gcp-kms.ts';
import { openGcpKms } from '../../core/signing/gcp-kms.ts';
import { parseGoogleUrl } from '../../core/storage/google/url.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { createDeployment } from '../shared/deployment.ts';
import type { Deployment } from '../shared/deployment.ts';
import { createLog } from '../shared/log.ts';
import type { Level, Log, LogRecord } from '../shared/log.ts';
import type { Environment } from '../shared/settings.ts';
import { createCounter, tallyRecord } from '../shared/tally.ts';
import type { Counter } from '../shared/tally.ts';
import { createCallerCheck } from './caller.ts';
import type { CallerCheck } from './caller.ts';
import { kmsClients } from './decrypt.ts';
import { readGoogleSettings } from './settings.ts';
import { openTopic } from './topic.ts';

/** What a function is on Google Cloud, made once for all invocations of a process. */
export interface GoogleRuntime {
  readonly deployment: Deployment;
  readonly root: TriggerRoot;
  readonly checkCaller: CallerCheck;
  /** Runs an invocation; afterwards what it counted is logged, however it ended. */
  invoke<T>(fields: object, work: (log: Log, counter: Counter) => Promise<T>): Promise<T>;
}

const severities: Readonly<Record<Level, string>> = {
  info: 'INFO',
  warn: 'WARNING',
  error: 'ERROR',
};

/**
 * A record as Cloud Logging takes it from standard output: the severity and the time by its names.
 *
 * @see https://cloud.google.com/logging/docs/structured-logging
 */
export function structuredLine({ level, at, ...fields }: LogRecord): string {
  return JSON.stringify({ severity: severities[level], time: at, ...fields });
}

/**
 * @param write takes a line of the log
 * @throws NicheError `malformed-config`
 */
export function createGoogleRuntime(
  env: Environment,
  write: (line: string) => void,
): GoogleRuntime {
  const settings = readGoogleSettings(env);
  const service = env['K_SERVICE'] ?? 'local';
  const revision = env['K_REVISION'] ?? 'none';
  return {
    root: parseGoogleUrl(settings.NICHE_PRIVATE),
    checkCaller: createCallerCheck({
      email: settings.NICHE_SWEEP_CALLER,
      certificates: settings.NICHE_SWEEP_CERTIFICATES,
    }),
    deployment: createDeployment({
      settings,
      signing: { gcpKms: openGcpKms({ endpoint: settings.NICHE_KMS_ENDPOINT }) },
      identities: [gcpKmsIdentity(kmsClients(settings.NICHE_KMS_ENDPOINT))],
      queue: openTopic(settings.NICHE_WAKE_TOPIC, { emulator: settings.PUBSUB_EMULATOR_HOST }),
      version: `niche ${packageJson.version} (${service}:${revision})`,
    }),
    async invoke(fields, work) {
      const log = createLog((record) => {
        write(structuredLine(record));
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
