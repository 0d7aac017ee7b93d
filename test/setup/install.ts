import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf } from '../../core/errors.ts';
import type { ToolReport } from './tools.ts';

/** A tool in a folder of its own. */
export interface ToolFolder {
  readonly tool: string;
  readonly version: string;
  /** Exists only once the tool is complete. */
  readonly folder: string;
  /** How to get the program that the installation runs and that this host lacks. */
  readonly needs: string;
}

/** Installs the tool with `fill`, which gets a temporary folder, unless the tool is there already. */
export async function installTool(
  { tool, version, folder, needs }: ToolFolder,
  fill: (temporary: string) => Promise<void>,
): Promise<ToolReport> {
  const detail = `${version} in ${folder}`;
  if (existsSync(folder)) return { tool, status: 'ready', detail };
  await mkdir(dirname(folder), { recursive: true });
  const temporary = await mkdtemp(`${folder}.`);
  try {
    await fill(temporary);
    await rename(temporary, folder);
    return { tool, status: 'installed', detail };
  } catch (error) {
    return { tool, status: 'missing', detail: reasonOf(error, needs) };
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Returns the last line that a failed program printed, or the error's own message. */
function reasonOf(error: unknown, needs: string): string {
  const { code, syscall = '', stderr = '' } = error as Failure;
  if (code === 'ENOENT' && syscall.startsWith('spawn')) return needs;
  const reason = stderr.trim().split('\n').at(-1) ?? '';
  return `${reason === '' ? messageOf(error) : reason}; run \`npm run setup:test\` again to retry`;
}

interface Failure {
  readonly code?: unknown;
  readonly syscall?: string;
  readonly stderr?: string;
}
