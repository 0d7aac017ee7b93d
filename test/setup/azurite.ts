import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installTool } from './install.ts';
import { toolsFolder, type ToolReport } from './tools.ts';

const version = '3.37.0';

/** Returns the path of a script of Azurite, for Node to run. */
export function azuriteScript(name: string): string {
  return join(folder(), 'node_modules/azurite/dist/src', name);
}

function folder(): string {
  return join(toolsFolder(), `azurite-${version}`);
}

/** Installs Azurite from npm. It is no dependency of this package, as few tests need its 150 MB. */
export async function setupAzurite(): Promise<ToolReport> {
  const azurite = { tool: 'azurite', version, folder: folder(), needs: 'install npm' };
  return installTool(azurite, async (temporary) => {
    await writeFile(join(temporary, 'package.json'), '{"private":true}\n');
    const options = ['--save-exact', '--ignore-scripts', '--no-audit', '--no-fund'];
    await promisify(execFile)('npm', ['install', ...options, `azurite@${version}`], {
      cwd: temporary,
    });
  });
}
