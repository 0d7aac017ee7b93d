import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { ToolReport } from './tools.ts';

/** Looks for the host's GnuPG. It is not installed from here, since its agent is part of the host. */
export async function findGpg(): Promise<ToolReport> {
  try {
    const { stdout } = await promisify(execFile)('gpg', ['--version']);
    return { tool: 'gpg', status: 'ready', detail: stdout.split('\n')[0] ?? '' };
  } catch {
    return { tool: 'gpg', status: 'missing', detail: 'install GnuPG (Debian: gnupg)' };
  }
}
