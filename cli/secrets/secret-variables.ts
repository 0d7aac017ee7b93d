import type { Environment } from '../process/environment.ts';

/** Variables that contain a secret. No program that niche starts needs them. */
const names = ['SOPS_AGE_KEY', 'NICHE_UPLOAD_CREDENTIALS'] as const;

/** Removes the secret variables from `env`, so that no child inherits them, and returns them. */
export function takeSecrets(env: NodeJS.ProcessEnv): Environment {
  const taken = Object.fromEntries(names.map((name) => [name, env[name]]));
  for (const name of names) {
    // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- assigning would keep the name
    delete env[name];
  }
  return taken;
}
