import type { Environment } from '../process/environment.ts';

/** Variables that hold a secret itself, and not where one is: nothing that niche runs needs them. */
const names = ['SOPS_AGE_KEY', 'NICHE_UPLOAD_CREDENTIALS'] as const;

/** Takes them out of `env`, so that no child inherits them. */
export function takeSecrets(env: NodeJS.ProcessEnv): Environment {
  const taken = Object.fromEntries(names.map((name) => [name, env[name]]));
  for (const name of names) {
    // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- assigning would keep the name
    delete env[name];
  }
  return taken;
}
