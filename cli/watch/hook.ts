import { closeSync, openSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { shellQuote } from '../../core/util/shell.ts';

export interface HookOptions {
  /** The session folder to put the hook and its spool file into. */
  readonly folder: string;
  /** The program that was configured to run after each build, if any. */
  readonly previousHook: string | null;
}

export interface Hook {
  /** The program for nix's `post-build-hook` setting. */
  readonly hookFile: string;
  /** What the hook appends to, see {@link hookScript}. */
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
 * The hook: for each output one line, the derivation, a space and the output, or the derivation
 * alone where nix names no outputs (2.8.0). A line is far shorter than what shells write at once,
 * and the file is opened for appending, so lines of hooks that run at the same time stay whole.
 * Nothing that happens to the spool may fail a build: only the previous hook's status counts.
 */
export function hookScript(spoolFile: string, previousHook: string | null): string {
  return `#!/bin/sh
# Made by niche for one run of nix: tells it what was built.
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
