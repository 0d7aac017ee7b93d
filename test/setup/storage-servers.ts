import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { messageOf } from '../../core/errors.ts';
import { toolsFolder, type ToolReport } from './tools.ts';

const exec = promisify(execFile);

const azuriteVersion = '3.37.0';
const fakeGcsVersion = 'v1.56.1';

/** Azurite's blob server, to be run by Node; it may not be there. */
export function azuriteScript(): string {
  return join(azuriteFolder(), 'node_modules/azurite/dist/src/blob/main.js');
}

/** fake-gcs-server's executable; it may not be there. */
export function fakeGcsExecutable(): string {
  return join(fakeGcsFolder(), 'fake-gcs-server');
}

function azuriteFolder(): string {
  return join(toolsFolder(), `azurite-${azuriteVersion}`);
}

function fakeGcsFolder(): string {
  return join(toolsFolder(), `fake-gcs-server-${fakeGcsVersion}`);
}

/** Azurite, from npm, in a folder of its own. Took 12 s to 55 s on two cores. */
export function setupAzurite(): Promise<ToolReport> {
  return setup('azurite', azuriteVersion, azuriteFolder(), azuriteScript(), async (folder) => {
    await writeFile(join(folder, 'package.json'), '{"private":true}\n');
    const install = ['install', '--save-exact', '--ignore-scripts', '--no-audit', '--no-fund'];
    await exec('npm', [...install, `azurite@${azuriteVersion}`], { cwd: folder });
  });
}

/** fake-gcs-server, built by Go. Took 3 to 5 minutes on two busy cores, of which 110 s of computing. */
export function setupFakeGcs(): Promise<ToolReport> {
  const name = 'fake-gcs-server';
  return setup(name, fakeGcsVersion, fakeGcsFolder(), fakeGcsExecutable(), async (folder) => {
    const env = { ...process.env, GOBIN: folder, CGO_ENABLED: '0' };
    await exec('go', ['install', `github.com/fsouza/${name}@${fakeGcsVersion}`], { env });
  });
}

/** @param install fills an empty folder, which becomes `folder` once it is whole */
async function setup(
  tool: string,
  version: string,
  folder: string,
  file: string,
  install: (folder: string) => Promise<void>,
): Promise<ToolReport> {
  if (existsSync(file)) return { tool, status: 'ready', detail: version };
  await mkdir(toolsFolder(), { recursive: true });
  const made = await mkdtemp(join(toolsFolder(), `.${tool}-`));
  try {
    await install(made);
    await rm(folder, { recursive: true, force: true });
    await rename(made, folder);
    return { tool, status: 'installed', detail: version };
  } catch (error) {
    if (existsSync(file)) return { tool, status: 'ready', detail: version };
    const { stderr } = error as { stderr?: string };
    const why = (stderr ?? '').trim().split('\n').at(-1) ?? '';
    return { tool, status: 'missing', detail: why === '' ? messageOf(error) : why };
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}
