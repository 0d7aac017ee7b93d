import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { NixVersion } from '../../setup/nix-installed.ts';
import { execute, outputOf, type ExecuteOptions, type Executed } from './execute.ts';
import { waitLimitMs } from '../assert/until.ts';

export interface NixDaemonOptions {
  /**
   * Trusted users. The daemon knows clients by their user, so that even root is untrusted unless
   * listed. @default []
   */
  readonly trustedUsers?: readonly string[];
  /** Users that may connect. @default ['*'] */
  readonly allowedUsers?: readonly string[];
  /** Settings for the daemon only, such as `trusted-substituters`. */
  readonly settings?: Readonly<Record<string, string>>;
  /**
   * Folders that are empty for the daemon, as for one in a container. The rest of the lab stays visible.
   * @default none
   */
  readonly hiddenFolders?: readonly string[];
}

/** A running daemon, with the environment of its clients. */
export interface NixDaemon {
  readonly socket: string;
  /** The environment of a client that uses the store only through the daemon. */
  readonly env: Readonly<Record<string, string>>;
  /** Runs `command` as a client in the lab's `work`. */
  run(command: string, args: readonly string[], options?: ExecuteOptions): Promise<Executed>;
  /**
   * Like {@link run}, but returns the output.
   * @throws Error with its standard error when it fails.
   */
  output(command: string, args: readonly string[], options?: ExecuteOptions): Promise<string>;
  /** The output of the daemon so far. */
  log(): Promise<string>;
  stop(): Promise<void>;
}

interface Place {
  readonly nix: NixVersion;
  readonly env: Readonly<Record<string, string>>;
  /** The working directory of clients. */
  readonly work: string;
  readonly socket: string;
  /** The root of the store's files, for a chroot store. */
  readonly root: string | undefined;
  /** The folder of the lab. */
  readonly folder: string;
}

/**
 * Runs the arguments after `--` in a mount namespace where the folders before it are empty, except for
 * the lab's, the first argument.
 */
const hide = `
lab=$1; shift
mount -t tmpfs none /mnt && mkdir /mnt/lab && mount --bind "$lab" /mnt/lab || exit
while [ "$1" != -- ]; do
  mount -t tmpfs none "$1" || exit
  [ -e "$lab" ] || { mkdir -p "$lab" && mount --bind /mnt/lab "$lab" || exit; }
  shift
done
shift; exec "$@"`;

/** Returns whether this user can start a daemon with `hiddenFolders` on this host. */
export function canHideFolders(): boolean {
  return spawnSync('unshare', [...unshare, 'true'], { stdio: 'ignore' }).status === 0;
}

const unshare = process.getuid?.() === 0 ? ['--mount'] : ['--mount', '--map-root-user'];

/** @throws Error with the daemon's output when it does not listen */
export async function startNixDaemon(place: Place, options: NixDaemonOptions): Promise<NixDaemon> {
  const { socket, work } = place;
  const settings = {
    'trusted-users': (options.trustedUsers ?? []).join(' '),
    'allowed-users': (options.allowedUsers ?? ['*']).join(' '),
    ...options.settings,
  };
  const logFile = `${socket}.log`;
  const log = createWriteStream(logFile);
  await once(log, 'open');
  const daemon = [
    join(place.nix.bin, 'nix-daemon'),
    ...Object.entries(settings).flatMap(([name, value]) => ['--option', name, value]),
  ];
  const hidden = options.hiddenFolders ?? [];
  const hiding = ['unshare', ...unshare, 'sh', '-c', hide, 'sh', place.folder, ...hidden, '--'];
  const [program = '', ...args] = hidden.length === 0 ? daemon : [...hiding, ...daemon];
  const child = spawn(program, args, {
    cwd: work,
    env: { ...place.env, NIX_DAEMON_SOCKET_PATH: socket },
    stdio: ['ignore', log, log],
  });
  const readLog = (): Promise<string> => readFile(logFile, 'utf8');
  try {
    await untilListening(child, socket);
  } catch (error) {
    await end(child);
    throw new Error(`starting nix-daemon ${place.nix.version}: ${await readLog()}`, {
      cause: error,
    });
  } finally {
    log.close();
  }

  const home = `${socket}.home`;
  await mkdir(home);
  const env = {
    ...place.env,
    HOME: home,
    NIX_DAEMON_SOCKET_PATH: socket,
    // The client reads build logs and imports from derivations as files, so it needs their location.
    // The trusted users of the daemon stay the same.
    NIX_REMOTE: place.root === undefined ? 'daemon' : `unix://${socket}?root=${place.root}`,
  };
  const run: NixDaemon['run'] = (command, args, more) =>
    execute(command, args, { cwd: work, ...more, env: { ...env, ...more?.env } });
  return {
    socket,
    env,
    run,
    output: async (command, args, more) => outputOf(command, args, await run(command, args, more)),
    log: readLog,
    stop: () => end(child),
  };
}

async function untilListening(child: ChildProcess, socket: string): Promise<void> {
  const deadline = Date.now() + waitLimitMs;
  while (!(await listens(socket))) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      throw new Error('the daemon does not listen');
    }
    await delay(20);
  }
}

function listens(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.on('connect', () => {
      connection.destroy();
      resolve(true);
    });
    connection.on('error', () => {
      resolve(false);
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
    return;
  }
  const exited = once(child, 'exit');
  // The daemon forks for each connection, into a new session.
  const connections = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').catch(
    () => '',
  );
  child.kill('SIGTERM');
  for (const pid of connections.split(' ').filter((each) => each !== '')) {
    try {
      process.kill(Number(pid), 'SIGTERM');
    } catch {
      // Its client has disconnected.
    }
  }
  await exited;
}
