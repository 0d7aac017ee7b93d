import * as z from 'zod';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { parseSignerSpec } from '../../core/signing/signer-spec.ts';

/** The environment of a function, where a deployment puts its settings. */
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

/** What every deployment sets, whatever its cloud. Nothing of it is ever read from a bucket. */
export const deploymentSettings = z.object({
  /** The public root, a storage URL. */
  NICHE_PUBLIC: url,
  /** The private root, a storage URL. */
  NICHE_PRIVATE: url,
  /** Signer specs, separated by spaces; each signs what it can. */
  NICHE_SIGNERS: signers,
  /** The function's own time limit, in seconds: an attempt older than that has died. */
  NICHE_TIME_LIMIT_SECONDS: z.coerce.number().positive().max(86_400),
  /** NAR bytes a second that the function is counted on to publish. */
  NICHE_BYTES_PER_SECOND: z.coerce.number().positive().default(20_000_000),
});

export type DeploymentSettings = z.infer<typeof deploymentSettings>;

/**
 * Reads the settings that `schema` names.
 *
 * @throws NicheError `malformed-config`, which names each variable that is missing or wrong
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
  throw new NicheError('malformed-config', `the function's settings: ${issues.join('; ')}`, {
    hint: 'deploy again: serverless.yml and its like set all of them',
  });
}
