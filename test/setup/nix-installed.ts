import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toolsFolder } from './tools.ts';

/** A real Nix that tests can run. */
export interface NixVersion {
  /** Nix's own version, such as `2.8.0`. */
  readonly version: string;
  /** The folder with `nix`, `nix-build`, `nix-store`, `nix-daemon`… */
  readonly bin: string;
  /** The Debian suite that it came from. */
  readonly suite: string;
  /** The version of Debian's package, such as `2.8.0-1.1+b1`. */
  readonly packageVersion: string;
}

/** Where the versions of Nix are kept, a folder for each. */
export function nixFolder(): string {
  return join(toolsFolder(), 'nix');
}

/** The versions of Nix under the tools folder that run from where they are, oldest first. */
export function installedNix(): NixVersion[] {
  const folder = nixFolder();
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names
    .filter((name) => !name.startsWith('.') && existsSync(join(folder, name, 'nix.json')))
    .map((name) => JSON.parse(readFileSync(join(folder, name, 'nix.json'), 'utf8')) as Installed)
    .filter(({ version, bin, arch }) => {
      // Paths of the loader and the libraries are absolute, so one that was moved doesn't run.
      return arch === process.arch && bin === join(folder, version, 'usr/bin');
    })
    .map(({ version, bin, suite, packageVersion }) => ({ version, bin, suite, packageVersion }))
    .sort((a, b) => a.version.localeCompare(b.version, 'en', { numeric: true }));
}

type Installed = NixVersion & { readonly arch: string };
