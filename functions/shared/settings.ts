import * as z from 'zod';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { parseSignerSpec } from '../../core/signing/signer-spec.ts';

/** The environment of a function, which holds the settings of its deployment. */
export type Environment = Readonly<Record<string, string | undefined>>;

const url = z.string().refine((text) => URL.canParse(text), { error: 'expected a storage URL' });

const signers = z
  .string()
  .transform((text) => text.split(/\s+/).filter((spec) => spec !== ''))
  .pipe(z.array(z.string()).min(1, { error: 'expected at least one signer' }))
  .transform((specs, context) =>
    specs.map((spec) => {
      try {
        return parseSignerSpec(spec);
      } catch (error) {
        context.addIssue({ code: 'custom', message: messageOf(error) });
        return z.NEVER;
      }
    }),
  );

/** The settings of every deployment. None of them is ever read from a bucket. */
export const deploymentSettings = z.object({
  /** The storage URL of the public root. */
  NICHE_PUBLIC: url,
  /** The storage URL of the staging root. */
  NICHE_STAGING: url,
  /** The storage URL of the private root. */
  NICHE_PRIVATE: url,
  /** Signer specs, separated by spaces. Each signs the fingerprints that it can sign. */
  NICHE_SIGNERS: signers,
  /** The time limit of an invocation, in seconds. An attempt older than this has crashed. */
  NICHE_TIME_LIMIT_SECONDS: z.coerce.number().positive().max(86_400),
  /** The file with the logins for upstreams over HTTPS, in the format of netrc. @default none */
  NICHE_NETRC: z.string().optional(),
  /** The expected publishing speed, in NAR bytes per second. */
  NICHE_BYTES_PER_SECOND: z.coerce.number().positive().default(20_000_000),
});

export type DeploymentSettings = z.infer<typeof deploymentSettings>;

/**
 * Reads settings from the environment.
 *
 * @throws NicheError `malformed-config`, which lists each variable that is missing or invalid
 */
export function readSettings<T>(schema: z.ZodType<T>, env: Environment): T {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  const issues = result.error.issues.map(({ path, message }) => {
    const name = path.map(String).join('.');
    const value = env[name];
    return value === undefined || value === ''
      ? `${name} is not set`
      : `${name}: ${message} (got ${quote(value)})`;
  });
  throw new NicheError('malformed-config', `reading the settings: ${issues.join('; ')}`, {
    hint: 'deploy again: the deployment files set every variable',
  });
}
