import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** A package in the current index of a Debian suite. */
export interface DebianPackage {
  readonly name: string;
  /** Debian's version, including the epoch. */
  readonly version: string;
}

/** A Debian suite, read through a private apt that shares no state with the host's. */
export interface DebianSuite {
  /**
   * Returns the packages that are installed with `names` on an empty system, including `names`.
   * @throws Error if the suite lacks one of them.
   */
  plan(names: readonly string[]): Promise<DebianPackage[]>;
  /** Downloads `packages`, checks them against the signed index, and unpacks them into `root`. */
  unpack(packages: readonly DebianPackage[], root: string): Promise<void>;
  /** Removes the private apt's state. */
  close(): Promise<void>;
}

// apt reads this after the host's settings, so that proxies and credentials stay in force.
const aptSettings = `
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
`;

/**
 * Returns the address of the Debian archive: `NICHE_DEBIAN_MIRROR`, or the one that this host's apt
 * uses.
 * @throws Error if there is none.
 */
export async function debianMirror(): Promise<string> {
  const chosen = process.env['NICHE_DEBIAN_MIRROR'];
  if (chosen !== undefined && chosen !== '') {
    return chosen;
  }
  const empty = await mkdtemp(join(tmpdir(), 'niche-apt-'));
  try {
    await mkdir(join(empty, 'lists/partial'), { recursive: true });
    // Without state, apt prints every index that it would fetch. This works for every format of the
    // host's source files.
    const { stdout } = await exec('apt-get', [
      ...['-o', `Dir::State=${empty}`, '-o', 'Debug::NoLocking=1'],
      ...['update', '--print-uris'],
    ]);
    const mirrors = new Map<string, Set<string>>();
    for (const [, base, suite] of stdout.matchAll(/^'([^']+)\/dists\/([^/']+)\/InRelease'/gm)) {
      mirrors.set(base!, (mirrors.get(base!) ?? new Set()).add(suite!));
    }
    // Third-party archives may end in "/debian" too. Only Debian's own has an "-updates" suite.
    const own = [...mirrors].find(([base, suites]) => {
      const hasUpdates = [...suites].some((suite) => suites.has(`${suite}-updates`));
      return hasUpdates && /\/debian\/?$/.test(base);
    });
    const mirror = own?.[0] ?? [...mirrors.keys()].find((base) => /\/debian\/?$/.test(base));
    if (mirror === undefined) {
      throw new Error(
        'apt on this host uses no Debian archive: set NICHE_DEBIAN_MIRROR to the URL of one',
      );
    }
    return mirror;
  } finally {
    await rm(empty, { recursive: true, force: true });
  }
}

/**
 * Fetches the index of `suite` from `mirror` into a temporary folder. It needs no privileges and does
 * not change the host's apt.
 * @throws Error if apt, the archive's keyring or the index is missing.
 */
export async function openDebianSuite(mirror: string, suite: string): Promise<DebianSuite> {
  const keyring = ['gpg', 'pgp']
    .map((end) => `/usr/share/keyrings/debian-archive-keyring.${end}`)
    .find((path) => existsSync(path));
  if (keyring === undefined) {
    throw new Error('no keyring of the Debian archive: install debian-archive-keyring');
  }
  const folder = await mkdtemp(join(tmpdir(), 'niche-apt-'));
  const at = (name: string): string => join(folder, name);
  await Promise.all([
    mkdir(at('state/lists/partial'), { recursive: true }),
    mkdir(at('cache/archives/partial'), { recursive: true }),
    mkdir(at('debs')),
    writeFile(at('status'), ''),
    writeFile(at('apt.conf'), aptSettings),
    writeFile(
      at('debian.sources'),
      `Types: deb\nURIs: ${mirror}\nSuites: ${suite}\nComponents: main\nSigned-By: ${keyring}\n`,
    ),
  ]);
  const apt = async (...args: string[]): Promise<string> => {
    const { stdout } = await exec(
      'apt-get',
      [
        ...['-q', '-c', at('apt.conf'), '-o', `Dir::State=${at('state')}`],
        ...['-o', `Dir::State::status=${at('status')}`, '-o', `Dir::Cache=${at('cache')}`],
        ...['-o', `Dir::Etc::sourcelist=${at('debian.sources')}`, ...args],
      ],
      { cwd: at('debs'), maxBuffer: 2 ** 24 },
    );
    return stdout;
  };

  const close = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    await apt('update', '--error-on=any');
  } catch (error) {
    await close();
    throw error;
  }
  return {
    plan: async (names) => {
      const listed = await apt('install', '--yes', '--print-uris', ...names);
      // 'URI' name_version_architecture.deb size hash; an epoch's colon is written %3a
      const lines = listed.matchAll(/^'[^']+' ([^_ ]+)_([^_ ]+)_[^_ ]+\.deb /gm);
      return [...lines].map(([, name, version]) => ({
        name: name!,
        version: decodeURIComponent(version!),
      }));
    },
    unpack: async (packages, root) => {
      await apt('download', ...packages.map(({ name, version }) => `${name}=${version}`));
      await mkdir(root, { recursive: true });
      for (const file of await readdir(at('debs'))) {
        await exec('dpkg-deb', ['-x', at(`debs/${file}`), root]);
      }
    },
    close,
  };
}
