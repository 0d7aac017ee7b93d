import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { shellWord } from '../../core/util/shell.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';
import { linkTarget } from './conf-file.ts';
import type { CacheEntry } from './nix-conf.ts';
import { confLines } from './nix-conf.ts';

/** How an administrator changes the nix.conf of this machine. */
export interface SystemConf {
  /** The file that an administrator edits. */
  readonly path: string;
  /** Whether the file is generated, as on NixOS. Then nobody can edit it. */
  readonly isManaged: boolean;
  /** The command that restarts the daemon, if known. */
  readonly restart: string | null;
}

/**
 * Finds out how to change the system's nix.conf.
 *
 * @param platform as in `process.platform`
 */
export async function describeSystem(env: Environment, platform: string): Promise<SystemConf> {
  const folder = nonEmpty(env['NIX_CONF_DIR']) ?? '/etc/nix';
  const main = path.join(folder, 'nix.conf');
  const isManaged = (await linkTarget(main)) !== null;
  const text = await readFile(main, 'latin1').catch(() => '');
  // Some installers overwrite nix.conf and provide a second file for administrators.
  const hasCustom = /^!?include nix\.custom\.conf\s*$/m.test(text);
  return {
    path: hasCustom ? path.join(folder, 'nix.custom.conf') : main,
    isManaged,
    restart: restartCommand(platform),
  };
}

/** Returns the commands that add the cache for all users. */
export function systemCommands(system: SystemConf, entry: CacheEntry): string[] {
  return appendCommands(system, confLines(entry));
}

/** Returns the commands that let each user choose the cache. */
export function permitCommands(system: SystemConf, entry: CacheEntry): string[] {
  return appendCommands(
    system,
    confLines(entry).map((line) =>
      line.replace(/^extra-substituters/, 'extra-trusted-substituters'),
    ),
  );
}

function appendCommands({ path: file, restart }: SystemConf, lines: readonly string[]): string[] {
  // The file's last line may have no newline.
  const printed = [`'\\n${'%s\\n'.repeat(lines.length)}'`, ...lines.map(shellWord)].join(' ');
  return [
    `printf ${printed} | sudo tee -a ${shellWord(file)} >/dev/null`,
    ...(restart === null ? [] : [restart]),
  ];
}

function restartCommand(platform: string): string | null {
  if (platform === 'darwin') {
    const determinate = 'systems.determinate.nix-daemon';
    const isDeterminate = existsSync(`/Library/LaunchDaemons/${determinate}.plist`);
    const service = isDeterminate ? determinate : 'org.nixos.nix-daemon';
    return `sudo launchctl kickstart -k system/${service}`;
  }
  return existsSync('/run/systemd/system') ? 'sudo systemctl restart nix-daemon.service' : null;
}
