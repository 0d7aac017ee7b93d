import { netrcLogins } from '../../core/util/netrc.ts';
import type { FindLogin } from '../../core/util/netrc.ts';
import { findNetrcFile } from '../nix/netrc-file.ts';
import type { Context } from '../process/context.ts';

/** The logins of each command: finding them takes a run of Nix. */
const found = new WeakMap<Context, FindLogin>();

/** Returns the logins for private caches in this machine's netrc. */
export function loginsOf(context: Context): FindLogin {
  const logins = found.get(context) ?? netrcLogins(() => findNetrcFile(context));
  found.set(context, logins);
  return logins;
}
