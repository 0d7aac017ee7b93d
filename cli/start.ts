import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

/*
 * Starts the CLI from a checkout. Node's compile cache saves the next start from stripping the types
 * of a hundred modules. It is in the user's own folder, since it holds code that the user runs.
 */
const { HOME, XDG_CACHE_HOME } = process.env;
const caches = isSet(XDG_CACHE_HOME) ? XDG_CACHE_HOME : isSet(HOME) ? join(HOME, '.cache') : null;
if (caches !== null) enableCompileCache(join(caches, 'niche/compiled'));

const { runProcess } = await import('./main.ts');
await runProcess();

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
