import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { goProgram, setupGoTool, type GoTool } from './go.ts';
import { finishSetup, type ToolReport } from './tools.ts';

/** The real program that niche's secret documents have to get on with. */
const sops: GoTool = {
  name: 'sops',
  packages: ['github.com/getsops/sops/v3/cmd/sops'],
  version: 'v3.13.3',
};

/** The `sops` that {@link setupSops} installed; null when there is none. */
export function installedSops(): string | null {
  return goProgram(sops);
}

/** Builds `sops`, unless it is there already, and looks for the host's gpg. */
export async function setupSops(): Promise<ToolReport[]> {
  return [await setupGoTool(sops), await findGpg()];
}

/** The host's GnuPG, with its agent; it is not installed from here. */
async function findGpg(): Promise<ToolReport> {
  try {
    const { stdout } = await promisify(execFile)('gpg', ['--version']);
    return { tool: 'gpg', status: 'ready', detail: stdout.split('\n')[0] ?? '' };
  } catch {
    return { tool: 'gpg', status: 'missing', detail: 'install GnuPG, as with: apt install gnupg' };
  }
}

if (import.meta.main) finishSetup(await setupSops());
