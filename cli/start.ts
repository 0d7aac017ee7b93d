import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

import { makeFolders } from '../core/util/folders.ts';

/*
 * Starts the CLI from a checkout. Node's compile cache saves the next start from stripping the types
 * of a hundred modules. It is in the user's own folder, since it holds code that the user runs.
 */
const { HOME, XDG_CACHE_HOME } = process.env;
const caches = isSet(XDG_CACHE_HOME) ? XDG_CACHE_HOME : isSet(HOME) ? join(HOME, '.cache') : null;
if (caches !== null) keepCompiled(join(caches, 'niche/compiled'));

const { runProcess } = await import('./main.ts');
await runProcess();

/** Does nothing where the folder cannot be created: a start is then slower. */
function keepCompiled(folder: string): void {
  try {
    // Node would create it too, and would never return where /proc is a parent.
    makeFolders(folder, 0o700);
  } catch {
    return;
  }
  enableCompileCache(folder);
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
