import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

/*
 * How a checkout's launcher starts the CLI. Node keeps what it compiles, so that the next start
 * need not strip a hundred modules of their types. It is kept in the user's own folder: whoever may
 * write to it could have this user run anything.
 */
const { HOME, XDG_CACHE_HOME } = process.env;
const caches = isSet(XDG_CACHE_HOME) ? XDG_CACHE_HOME : isSet(HOME) ? join(HOME, '.cache') : null;
if (caches !== null) enableCompileCache(join(caches, 'niche/compiled'));

const { runProcess } = await import('./main.ts');
await runProcess();

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
