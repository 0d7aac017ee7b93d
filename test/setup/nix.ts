import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { debianMirror, openDebianSuite, type DebianSuite } from './debian.ts';
import { installedNix, nixFolder, type NixVersion } from './nix-installed.ts';
import type { ToolReport } from './tools.ts';

const exec = promisify(execFile);

/** Debian suites with different versions of Nix, oldest first. */
const suites = ['bookworm', 'trixie', 'forky'] as const;

const triplets: Readonly<Partial<Record<NodeJS.Architecture, string>>> = {
  x64: 'x86_64-linux-gnu',
  arm64: 'aarch64-linux-gnu',
};

/**
 * Installs the Nix of each suite into the tools folder, unless it is there already. The loader and
 * all libraries come with it, so it runs on any Linux of this architecture and changes nothing on
 * the system. Only the tools of builds (/bin/sh, coreutils) are the host's.
 */
export async function setupNix(): Promise<ToolReport[]> {
  const installed = installedNix();
  let mirror: Promise<string> | undefined;
  return Promise.all(
    suites.map(async (suite): Promise<ToolReport> => {
      const tool = `nix (${suite})`;
      const there = installed.find((nix) => nix.suite === suite);
      if (there !== undefined) {
        return { tool, status: 'ready', detail: describe(there) };
      }
      try {
        mirror ??= debianMirror();
        return { tool, status: 'installed', detail: describe(await install(await mirror, suite)) };
      } catch (error) {
        return { tool, status: 'missing', detail: explain(error) };
      }
    }),
  );
}

async function install(mirror: string, name: string): Promise<NixVersion> {
  const triplet = triplets[process.arch];
  if (process.platform !== 'linux' || triplet === undefined) {
    throw new Error(`Debian has no nix-bin for ${process.platform} ${process.arch}`);
  }
  const suite = await openDebianSuite(mirror, name);
  try {
    return await installFrom(suite, name, triplet);
  } finally {
    await suite.close();
  }
}

async function installFrom(suite: DebianSuite, name: string, triplet: string): Promise<NixVersion> {
  const all = await suite.plan(['nix-bin', 'patchelf']);
  const packageVersion = all.find((each) => each.name === 'nix-bin')!.version;
  const version = packageVersion.replace(/[-+].*$/, '');
  const wanted = all.filter(
    (each) => isLibrary(each.name) || /^(nix-bin|patchelf)$/.test(each.name),
  );

  const folder = nixFolder();
  await mkdir(folder, { recursive: true });
  const unpacked = await mkdtemp(join(folder, `.${version}-`));
  try {
    const root = join(folder, version);
    await suite.unpack(wanted, unpacked);
    await useOwnLibraries(unpacked, root, triplet);
    const nix: NixVersion = { version, suite: name, packageVersion, bin: join(root, 'usr/bin') };
    const meanwhile = installedNix().find((each) => each.suite === name);
    if (meanwhile !== undefined) {
      return meanwhile;
    }
    // Removes an incomplete installation, or one that was moved here.
    await rm(root, { recursive: true, force: true });
    await rename(unpacked, root);
    // `nix-store --version` would open the store, and as root create /nix.
    const { stdout } = await exec(join(nix.bin, 'nix'), ['--version'], {
      env: { NIX_CONF_DIR: root, HOME: root },
    });
    if (!stdout.includes(version)) {
      throw new Error(`expected Nix ${version}, got ${stdout.trim()}`);
    }
    // Written last: it marks the installation as complete.
    await writeFile(join(root, 'nix.json'), `${JSON.stringify({ ...nix, arch: process.arch })}\n`);
    return nix;
  } finally {
    await rm(unpacked, { recursive: true, force: true });
  }
}

/** Excludes packages that only maintainer scripts need, such as Perl and dpkg. */
function isLibrary(name: string): boolean {
  return /^(lib|zlib)/.test(name) && !/^libperl|-perl$/.test(name);
}

/**
 * Sets the loader and library paths of the Nix at `from`, which will be moved to `to`. It sets RPATH
 * instead of RUNPATH, since only RPATH applies to the libraries of libraries too.
 */
async function useOwnLibraries(from: string, to: string, triplet: string): Promise<void> {
  const folders = [`lib/${triplet}`, `usr/lib/${triplet}`, 'usr/lib/nix'];
  const candidates = await Promise.all(
    folders.slice(0, 2).map(async (folder) => {
      const names = existsSync(join(from, folder)) ? await readdir(join(from, folder)) : [];
      return names
        .filter((name) => /^ld-linux.*\.so\.\d+$/.test(name))
        .map((name) => join(folder, name));
    }),
  );
  const loader = candidates.flat()[0];
  if (loader === undefined) {
    throw new Error(`no loader for ${triplet} in libc6`);
  }
  const libraryPath = (root: string): string => folders.map((each) => join(root, each)).join(':');
  const patchelf = async (...args: string[]): Promise<void> => {
    await exec(join(from, loader), [
      ...['--library-path', libraryPath(from), join(from, 'usr/bin/patchelf')],
      ...['--force-rpath', '--set-rpath', libraryPath(to), ...args],
    ]);
  };
  await patchelf('--set-interpreter', join(to, loader), join(from, 'usr/bin/nix'));
  const own = join(from, 'usr/lib/nix');
  const libraries = existsSync(own) ? await readdir(own) : [];
  for (const library of libraries.filter((each) => each.endsWith('.so'))) {
    await patchelf(join(own, library));
  }
}

function describe(nix: NixVersion): string {
  return `${nix.version} (nix-bin ${nix.packageVersion}) in ${nix.bin}`;
}

function explain(error: unknown): string {
  const { code, stderr, message } = error as { code?: unknown; stderr?: string; message?: string };
  if (code === 'ENOENT') {
    return 'no apt-get and dpkg-deb: use a Debian host or container';
  }
  const complaint = stderr
    ?.split('\n')
    .find((line) => line.startsWith('E: '))
    ?.slice(3);
  return `${complaint ?? message ?? String(error)}; run \`npm run setup:test\` again to retry`;
}
