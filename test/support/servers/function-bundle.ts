import { execFile } from 'node:child_process';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const checkout = join(import.meta.dirname, '../../..');

/**
 * Bundles a function as a release does, and writes the deployed files to `folder`.
 *
 * @returns the file that the cloud service loads
 */
export async function bundleFunctions(cloud: 'azure' | 'google', folder: string): Promise<string> {
  const out = join(folder, 'out');
  const script = join(checkout, 'scripts/functions.ts');
  await promisify(execFile)(process.execPath, [script, `--out=${out}`, cloud], { cwd: checkout });
  await cp(join(out, 'infra', cloud, 'function'), folder, { recursive: true });
  return join(folder, 'main.cjs');
}
