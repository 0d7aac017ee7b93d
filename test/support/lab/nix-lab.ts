import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { installedNix, type NixVersion } from '../../setup/nix-installed.ts';
import { startNixDaemon, type NixDaemon, type NixDaemonOptions } from './nix-daemon.ts';
import { execute, outputOf, type ExecuteOptions, type Executed } from './execute.ts';

export type { NixVersion } from '../../setup/nix-installed.ts';
export type { Executed, ExecuteOptions } from './execute.ts';
import { requireTool, whyNo } from '../assert/required.ts';

/** `name = value` lines of a nix.conf. */
export type NixSettings = Readonly<Record<string, string>>;

/**
 * The layout of a lab's store. `chroot`: store paths begin with /nix/store, and the files are below
 * the root of the lab. `own-store-dir`: the lab has its own store directory, and thus other hashes.
 * Used if the host forbids the namespaces that builds in a chroot store require.
 */
export type NixLabKind = 'chroot' | 'own-store-dir';

export interface NixLabOptions {
  readonly nix: NixVersion;
  /** @default 'chroot' if this host can build in one, else 'own-store-dir' */
  readonly kind?: NixLabKind;
  /** @default ['nix-command', 'flakes'] */
  readonly experimentalFeatures?: readonly string[];
  /** Public keys that the lab trusts, as `name:base64`. @default none */
  readonly trustedPublicKeys?: readonly string[];
  /** Further settings for nix.conf, which override those of the lab. */
  readonly settings?: NixSettings;
}

/** A machine with its own Nix: store, state, logs, settings and home, without the network. */
export interface NixLab {
  readonly nix: NixVersion;
  readonly kind: NixLabKind;
  /** The folder of the lab. Tests may add files, which are deleted with the lab. */
  readonly folder: string;
  /**
   * The working directory of commands, empty at first, for `default.nix`, `flake.nix` and results.
   * It does not contain the store, since Nix copies the whole folder of a `path:.` flake.
   */
  readonly work: string;
  /** The store directory, such as `/nix/store`. */
  readonly storeDir: string;
  /** The environment for commands of the store's owner. It inherits no variables of Nix. */
  readonly env: Readonly<Record<string, string>>;
  /** Runs `command` (of this Nix, or of the host) in `work`. */
  run(command: string, args: readonly string[], options?: ExecuteOptions): Promise<Executed>;
  /**
   * Runs `command` and returns its output without the final newline.
   * @throws Error with its standard error when it fails.
   */
  output(command: string, args: readonly string[], options?: ExecuteOptions): Promise<string>;
  /** Returns the location of a file of a store path on this host. */
  realPath(storePath: string): string;
  /** Rewrites nix.conf with these settings in addition to the former ones. */
  configure(settings: NixSettings): Promise<void>;
  /** Starts a real daemon on the store of the lab, which is stopped with the lab. */
  daemon(options?: NixDaemonOptions): Promise<NixDaemon>;
  /** Stops the daemons and removes everything. */
  close(): Promise<void>;
}

/** Returns every installed Nix, oldest first. */
export function availableNix(): readonly NixVersion[] {
  return installedNix();
}

/** Why a test of Nix is skipped here; see {@link whyNo}. */
export function whyNoNix(): string | false {
  return whyNo('Nix', availableNix().at(-1));
}

/** Returns every Nix to test with. Without any, a test is skipped, or fails in CI. */
export function everyNix(): readonly NixVersion[] {
  const skip = whyNoNix();
  if (skip !== false) test('with every Nix', { skip }, () => undefined);
  return availableNix();
}

/**
 * Returns the newest Nix, or the newest whose version begins with `wanted`. Without one it skips the
 * test with a hint; in CI it fails.
 * @returns null when the test was skipped and must return
 * @throws Error in CI when there is none.
 */
export function requireNix(t: TestContext, wanted = ''): NixVersion | null {
  const found = availableNix().findLast(({ version }) => version.startsWith(wanted));
  return requireTool(t, wanted === '' ? 'Nix' : `Nix ${wanted}`, found);
}

/** Creates a lab. The caller must close it. */
export async function createNixLab(options: NixLabOptions): Promise<NixLab> {
  const { nix } = options;
  const kind = options.kind ?? (await bestKind(nix));
  const folder = await mkdtemp(join(tmpdir(), 'niche-nix-'));
  // A client that runs as another user must reach the socket of the daemon.
  await chmod(folder, 0o755);
  const at = (path: string): string => join(folder, path);
  const chroot = kind === 'chroot';
  const store = chroot ? { NIX_REMOTE: at('root') } : ownStore(folder);
  const env: Record<string, string> = {
    PATH: [nix.bin, process.env['PATH'] ?? '/usr/bin:/bin'].join(delimiter),
    HOME: at('home'),
    USER: userName(),
    LANG: 'C.UTF-8',
    TMPDIR: at('tmp'),
    XDG_CACHE_HOME: at('home/.cache'),
    XDG_CONFIG_HOME: at('home/.config'),
    XDG_CONFIG_DIRS: at('home/.config'),
    XDG_DATA_HOME: at('home/.local/share'),
    XDG_STATE_HOME: at('home/.local/state'),
    NIX_CONF_DIR: at('etc'),
    NIX_BIN_DIR: nix.bin,
    NIX_PATH: '',
    ...store,
  };
  const buildHook = join(nix.bin, '../libexec/nix/build-remote');
  let settings: NixSettings = {
    'build-users-group': '',
    sandbox: 'false',
    substituters: '',
    'trusted-public-keys': (options.trustedPublicKeys ?? []).join(' '),
    'experimental-features': (options.experimentalFeatures ?? ['nix-command', 'flakes']).join(' '),
    'flake-registry': '',
    'connect-timeout': '5',
    // Nix 2.8 starts this for every build, and looks for it in the folder of its package.
    ...(existsSync(buildHook) ? { 'build-hook': buildHook } : {}),
    // Builds in a chroot store are always sandboxed, for any value of `sandbox`.
    ...(chroot ? { 'sandbox-paths': '/bin /usr /lib /lib64?' } : {}),
    ...options.settings,
  };
  const daemons: NixDaemon[] = [];
  const configure = async (more: NixSettings): Promise<void> => {
    settings = { ...settings, ...more };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
    await writeFile(at('etc/nix.conf'), lines.join(''));
  };
  await Promise.all(['etc', 'home', 'tmp', 'work'].map((name) => mkdir(at(name))));
  await configure({});

  const run: NixLab['run'] = (command, args, more) =>
    execute(command, args, { cwd: at('work'), ...more, env: { ...env, ...more?.env } });
  return {
    nix,
    kind,
    folder,
    work: at('work'),
    storeDir: chroot ? '/nix/store' : at('store'),
    env,
    run,
    output: async (command, args, more) => outputOf(command, args, await run(command, args, more)),
    realPath: (storePath) => (chroot ? join(at('root'), storePath) : storePath),
    configure,
    daemon: async (more = {}) => {
      const root = chroot ? at('root') : undefined;
      const socket = at(`daemon-${daemons.length}.socket`);
      const daemon = await startNixDaemon(
        { nix, env, work: at('work'), socket, root, folder },
        more,
      );
      daemons.push(daemon);
      return daemon;
    },
    close: async () => {
      await Promise.all(daemons.map((daemon) => daemon.stop()));
      // Files and folders of a Nix store are read-only.
      await execute('chmod', ['-R', 'u+rwX', folder], { env });
      // A child of a daemon may still write after the signal.
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

function ownStore(folder: string): Record<string, string> {
  return {
    // By default, Nix looks for a daemon first, and a daemon would find itself.
    NIX_REMOTE: 'local',
    NIX_STORE_DIR: join(folder, 'store'),
    NIX_LOCALSTATE_DIR: join(folder, 'var'),
    NIX_STATE_DIR: join(folder, 'var/nix'),
    NIX_LOG_DIR: join(folder, 'var/log/nix'),
  };
}

/** Nix 2.8 requires a user with a name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'nobody';
  }
}

const kinds = new Map<string, Promise<NixLabKind>>();

/** Returns whether this user can build in a chroot store on this host, which only a build shows. */
function bestKind(nix: NixVersion): Promise<NixLabKind> {
  const known = kinds.get(nix.bin) ?? tryChroot(nix);
  kinds.set(nix.bin, known);
  return known;
}

async function tryChroot(nix: NixVersion): Promise<NixLabKind> {
  const lab = await createNixLab({ nix, kind: 'chroot' });
  try {
    const probe = `derivation { name = "probe"; system = builtins.currentSystem;
      builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }`;
    const { status } = await lab.run('nix-build', ['--no-out-link', '-E', probe]);
    return status === 0 ? 'chroot' : 'own-store-dir';
  } finally {
    await lab.close();
  }
}
