import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** A package of a Debian suite as the suite's index has it now. */
export interface DebianPackage {
  readonly name: string;
  /** Debian's version, epoch included. */
  readonly version: string;
}

/** A Debian suite seen through an apt of its own, which shares no state with the host's. */
export interface DebianSuite {
  /**
   * The packages that installing `names` on an empty system would bring, `names` included.
   * @throws Error when the suite lacks one of them.
   */
  plan(names: readonly string[]): Promise<DebianPackage[]>;
  /** Downloads `packages`, checked against the signed index, and unpacks them over `root`. */
  unpack(packages: readonly DebianPackage[], root: string): Promise<void>;
  /** Removes the private state. */
  close(): Promise<void>;
}

// Read after the host's own settings, of which proxies and credentials are kept.
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
 * The address of the Debian archive that this host's apt is set up with, or the one in
 * `NICHE_DEBIAN_MIRROR`.
 * @throws Error when there is none.
 */
export async function debianMirror(): Promise<string> {
  const chosen = process.env['NICHE_DEBIAN_MIRROR'];
  if (chosen !== undefined && chosen !== '') {
    return chosen;
  }
  const empty = await mkdtemp(join(tmpdir(), 'niche-apt-'));
  try {
    await mkdir(join(empty, 'lists/partial'), { recursive: true });
    // With no state of its own apt names every index that it would fetch, whatever the form of
    // the host's source files.
    const { stdout } = await exec('apt-get', [
      ...['-o', `Dir::State=${empty}`, '-o', 'Debug::NoLocking=1'],
      ...['update', '--print-uris'],
    ]);
    const mirrors = new Map<string, Set<string>>();
    for (const [, base, suite] of stdout.matchAll(/^'([^']+)\/dists\/([^/']+)\/InRelease'/gm)) {
      mirrors.set(base!, (mirrors.get(base!) ?? new Set()).add(suite!));
    }
    // Others serve archives under ".../debian" too; only Debian's own has point updates.
    const own = [...mirrors].find(([base, suites]) => {
      const hasUpdates = [...suites].some((suite) => suites.has(`${suite}-updates`));
      return hasUpdates && /\/debian\/?$/.test(base);
    });
    const mirror = own?.[0] ?? [...mirrors.keys()].find((base) => /\/debian\/?$/.test(base));
    if (mirror === undefined) {
      throw new Error('apt has no Debian archive on this host; set NICHE_DEBIAN_MIRROR to one');
    }
    return mirror;
  } finally {
    await rm(empty, { recursive: true, force: true });
  }
}

/**
 * Fetches the index of `suite` from `mirror` into a temporary folder; needs no privileges and
 * leaves the host's apt alone.
 * @throws Error when apt or the archive's keyring is missing, or the index can't be had.
 */
export async function openDebianSuite(mirror: string, suite: string): Promise<DebianSuite> {
  const keyring = ['gpg', 'pgp']
    .map((end) => `/usr/share/keyrings/debian-archive-keyring.${end}`)
    .find((path) => existsSync(path));
  if (keyring === undefined) {
    throw new Error("the package debian-archive-keyring isn't installed on this host");
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
