import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import type { Metafile } from 'esbuild';

const checkout = join(import.meta.dirname, '..');

/** Returns the licences of the bundled packages, which must be distributed with them. */
export async function thirdPartyLicenses(metafiles: readonly Metafile[]): Promise<string> {
  // Only modules that contribute code to an output.
  const files = metafiles
    .flatMap(({ outputs }) => Object.values(outputs))
    .flatMap(({ inputs }) => Object.entries(inputs))
    .flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? [file] : []));
  const folders = files.flatMap(
    (file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0] ?? [],
  );
  const sections = [...new Set(folders)].sort().map(async (folder) => {
    const path = join(checkout, folder);
    const { name, version, license } = JSON.parse(
      await readFile(join(path, 'package.json'), 'utf8'),
    ) as { name: string; version: string; license: string };
    const file = (await readdir(path)).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? '' : `\n${await readFile(join(path, file), 'utf8')}`;
    return `${name} ${version}: ${license}\n${text}`;
  });
  return (await Promise.all(sections)).join('\n---\n\n');
}
