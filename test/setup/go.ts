import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { toolsFolder, type ToolReport } from './tools.ts';

const exec = promisify(execFile);

/** Programs that are built from one Go module. */
export interface GoTool {
  readonly name: string;
  /** Packages of the module, each of which makes a program called as its last segment. */
  readonly packages: readonly string[];
  readonly version: string;
  /** The module's own `replace` directives, which `go install` refuses to heed: `a => b v1`. */
  readonly replace?: readonly string[];
}

/** The program of an installed tool; null while it is not installed. */
export function goProgram(tool: GoTool, name = tool.name): string | null {
  const program = join(folderOf(tool), name);
  return existsSync(program) ? program : null;
}

/** Builds the tool from the Go module proxy, unless it is there already. */
export async function setupGoTool(tool: GoTool): Promise<ToolReport> {
  const folder = folderOf(tool);
  const detail = `${tool.version} in ${folder}`;
  if (existsSync(folder)) return { tool: tool.name, status: 'ready', detail };
  await mkdir(dirname(folder), { recursive: true });
  const building = await mkdtemp(`${folder}.`);
  try {
    await build(tool, building);
    await rename(building, folder);
    return { tool: tool.name, status: 'installed', detail };
  } catch (error) {
    return { tool: tool.name, status: 'missing', detail: explain(error) };
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

async function build(tool: GoTool, folder: string): Promise<void> {
  const go = async (...args: readonly string[]): Promise<void> => {
    await exec('go', args, {
      // A go.mod that this lies in is not asked; no newer Go is fetched for it.
      cwd: folder,
      env: { ...process.env, GOBIN: folder, GOFLAGS: '-trimpath', GOTOOLCHAIN: 'local' },
      maxBuffer: 2 ** 24,
    });
  };
  const versioned = tool.packages.map((each) => `${each}@${tool.version}`);
  if (tool.replace === undefined) {
    await go('install', '-ldflags=-s -w', ...versioned);
    return;
  }
  const replaced = tool.replace.map((directive) => `replace ${directive}\n`).join('');
  await writeFile(join(folder, 'go.mod'), `module niche.test/${tool.name}\n\n${replaced}`);
  await go('get', ...versioned);
  await go('install', '-ldflags=-s -w', ...tool.packages);
}

function folderOf({ name, version }: GoTool): string {
  return join(toolsFolder(), 'go', `${name}-${version}-${process.platform}-${process.arch}`);
}

function explain(error: unknown): string {
  const { code, stderr, message } = error as { code?: unknown; stderr?: string; message?: string };
  if (code === 'ENOENT') return 'it is built from its Go module: install Go 1.26 or later';
  return stderr?.trim().split('\n').at(-1) ?? message ?? String(error);
}
