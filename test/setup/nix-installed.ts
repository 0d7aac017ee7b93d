import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toolsFolder } from './tools.ts';

/** A real Nix that tests can run. */
export interface NixVersion {
  /** Nix's own version, such as `2.8.0`. */
  readonly version: string;
  /** The folder with `nix`, `nix-build`, `nix-store`, `nix-daemon`… */
  readonly bin: string;
  /** The Debian suite of the package. */
  readonly suite: string;
  /** The version of Debian's package, such as `2.8.0-1.1+b1`. */
  readonly packageVersion: string;
}

/** Returns the folder that has one folder for each version of Nix. */
export function nixFolder(): string {
  return join(toolsFolder(), 'nix');
}

/** Returns the usable versions of Nix in the tools folder, oldest first. */
export function installedNix(): NixVersion[] {
  const folder = nixFolder();
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names
    .filter((name) => !name.startsWith('.') && existsSync(join(folder, name, 'nix.json')))
    .map((name) => JSON.parse(readFileSync(join(folder, name, 'nix.json'), 'utf8')) as Installed)
    .filter(({ version, bin, arch }) => {
      // The paths of the loader and the libraries are absolute, so a moved Nix does not run.
      return arch === process.arch && bin === join(folder, version, 'usr/bin');
    })
    .map(({ version, bin, suite, packageVersion }) => ({ version, bin, suite, packageVersion }))
    .sort((a, b) => a.version.localeCompare(b.version, 'en', { numeric: true }));
}

type Installed = NixVersion & { readonly arch: string };
