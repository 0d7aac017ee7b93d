import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { toolsFolder, type ToolReport } from './tools.ts';

const exec = promisify(execFile);

/** A program written in Python, which tests run from an environment of its own. */
export interface PythonTool {
  /** Its package on PyPI, which is also the name of its command. */
  readonly name: string;
  readonly version: string;
  /** What it needs beside what it declares, as `name==version`. */
  readonly extras?: readonly string[];
}

/** The command of an installed tool; null while it is not installed. */
export function pythonCommand(tool: PythonTool): string | null {
  return existsSync(marker(tool)) ? join(folder(tool), 'bin', tool.name) : null;
}

/** The Python that has the tool, for one that is a library; null while it is not installed. */
export function pythonOf(tool: PythonTool): string | null {
  return existsSync(marker(tool)) ? join(folder(tool), 'bin/python') : null;
}

/** Installs the tool into an environment of its own, unless it is there already. */
export async function setupPythonTool(tool: PythonTool): Promise<ToolReport> {
  const { name, version, extras = [] } = tool;
  const command = pythonCommand(tool);
  if (command !== null) return { tool: name, status: 'ready', detail: `${version} in ${command}` };
  const target = folder(tool);
  try {
    await rm(target, { recursive: true, force: true });
    await mkdir(join(target, '..'), { recursive: true });
    await exec('python3', ['-m', 'venv', target]);
    const packages = [`${name}==${version}`, ...extras];
    await exec(join(target, 'bin/pip'), ['install', '--quiet', ...packages]);
    // Last, since this is what marks it as ready.
    await writeFile(marker(tool), `${packages.join('\n')}\n`);
    return { tool: name, status: 'installed', detail: `${version} in ${target}` };
  } catch (error) {
    const { code, stderr, message } = error as { code?: unknown; stderr?: string; message: string };
    const complaint = stderr?.trim().split('\n').at(-1);
    const detail =
      code === 'ENOENT' || /ensurepip|No module named venv/.test(stderr ?? '')
        ? 'python3 with its venv module is needed to get it (Debian: python3-venv)'
        : `${complaint ?? message}; run this again when PyPI is in reach`;
    return { tool: name, status: 'missing', detail };
  }
}

function folder({ name, version }: PythonTool): string {
  return join(toolsFolder(), 'python', `${name}-${version}`);
}

function marker(tool: PythonTool): string {
  return join(folder(tool), 'ready');
}
