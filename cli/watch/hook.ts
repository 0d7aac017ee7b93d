import { closeSync, openSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { shellQuote } from '../../core/util/shell.ts';

export interface HookOptions {
  /** The session folder, for the hook and its spool file. */
  readonly folder: string;
  /** The user's own post-build hook, if any. */
  readonly previousHook: string | null;
}

export interface Hook {
  /** The program for Nix's `post-build-hook` setting. */
  readonly hookFile: string;
  /** The file that the hook appends to, see {@link hookScript}. */
  readonly spoolFile: string;
}

/** Writes the post-build hook and an empty spool file. */
export function installHook({ folder, previousHook }: HookOptions): Hook {
  const hookFile = path.join(folder, 'post-build-hook');
  const spoolFile = path.join(folder, 'spool');
  closeSync(openSync(spoolFile, 'ax', 0o600));
  writeFileSync(hookFile, hookScript(spoolFile, previousHook), { mode: 0o700, flag: 'wx' });
  return { hookFile, spoolFile };
}

/**
 * Returns the hook's script. It appends one line per output: the derivation, a space and the output,
 * or the derivation alone when Nix passes no outputs (2.8.0). Concurrent hooks do not mix their
 * lines: the file is open for appending, and shells write such short lines at once. A failing write
 * must not fail the build: only the previous hook's status counts.
 */
export function hookScript(spoolFile: string, previousHook: string | null): string {
  return `#!/bin/sh
# Written by niche for one run of Nix: records what was built.
set -f
{
  if [ -n "\${OUT_PATHS:-}" ]; then
    for output in $OUT_PATHS; do printf '%s %s\\n' "$DRV_PATH" "$output"; done
  else
    printf '%s\\n' "$DRV_PATH"
  fi
} 2>/dev/null >>${shellQuote(spoolFile)} || :
${previousHook === null ? 'exit 0' : `set +f\nexec ${shellQuote(previousHook)}`}
`;
}
