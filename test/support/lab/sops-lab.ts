import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';

import { generateX25519Identity, identityToRecipient } from 'age-encryption';

import { openKeyring } from '../../../cli/secrets/identities.ts';
import type { Keyring } from '../../../core/secrets/recipient.ts';
import { findProgram } from '../../setup/programs.ts';
import { programPath, whyNo } from '../assert/required.ts';

const exec = promisify(execFile);

/** A separate home folder for `sops`, `gpg` and niche. */
export interface SopsLab {
  readonly folder: string;
  /** The whole environment, which inherits only PATH from the host. */
  readonly env: Readonly<Record<string, string>>;
  /** Returns the keyring of niche in this environment, with `extra` variables. */
  keyring(extra?: Readonly<Record<string, string>>): Keyring;
  /** Generates a PGP key and returns its fingerprint. */
  makePgpKey(name: string, options?: { passphrase?: string }): Promise<string>;
  /** Runs `gpg` here. @throws Error with its output */
  gpg(args: readonly string[], input?: string): Promise<string>;
  /** Runs a program of the host here. @throws Error with its output */
  run(program: string, args: readonly string[], input?: string): Promise<string>;
  /** Runs the real `sops`. @throws Error with its output */
  sops(args: readonly string[], extra?: Readonly<Record<string, string>>): Promise<string>;
  /** Decrypts a JSON document with the real `sops`. */
  sopsDecrypt(document: string, extra?: Readonly<Record<string, string>>): Promise<unknown>;
  /** Encrypts a JSON text with the real `sops`. */
  sopsEncrypt(
    plain: string,
    args: readonly string[],
    extra?: Readonly<Record<string, string>>,
  ): Promise<string>;
}

/** Skips a test without a real `sops`, or fails it in CI. */
export function needSops(): { skip: string | false } {
  return { skip: whyNo('sops', findProgram('sops')) };
}

export async function openSopsLab(t: TestContext): Promise<SopsLab> {
  // The name is short, since the folder contains the sockets of gpg-agent.
  const folder = await mkdtemp(join(tmpdir(), 'niche-s-'));
  const home = join(folder, 'home');
  const gnupg = join(home, '.gnupg');
  await mkdir(gnupg, { recursive: true, mode: 0o700 });
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    LANG: 'C.UTF-8',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  t.after(async () => {
    await exec('gpgconf', ['--kill', 'all'], { env }).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  });
  let count = 0;

  async function run(program: string, args: readonly string[], more: object, input?: string) {
    const promise = exec(program, args, {
      env: { ...env, ...more },
      maxBuffer: 2 ** 26,
      cwd: folder,
    });
    promise.child.stdin?.on('error', () => undefined);
    promise.child.stdin?.end(input ?? '');
    const { stdout } = await promise;
    return stdout;
  }

  async function sops(args: readonly string[], extra = {}): Promise<string> {
    return run(programPath('sops'), args, extra);
  }

  async function file(content: string): Promise<string> {
    count += 1;
    const name = join(folder, `document-${count}.json`);
    await writeFile(name, content);
    return name;
  }

  return {
    folder,
    env,
    keyring: (extra = {}) => openKeyring({ ...env, ...extra }),
    async makePgpKey(name, { passphrase = '' } = {}) {
      const loopback = [
        ...['--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', passphrase],
      ];
      const id = `${name} <${name}@example.org>`;
      await run('gpg', [...loopback, '--quick-generate-key', id, 'ed25519', 'cert', 'never'], {});
      const listed = await run('gpg', ['--with-colons', '--list-keys', `${name}@example.org`], {});
      const fingerprint = /^fpr:+([0-9A-F]+):/m.exec(listed)?.[1] ?? '';
      await run(
        'gpg',
        [...loopback, '--quick-add-key', fingerprint, 'cv25519', 'encr', 'never'],
        {},
      );
      return fingerprint;
    },
    gpg: (args, input) => run('gpg', ['--batch', '--quiet', ...args], {}, input),
    run: (program, args, input) => run(program, args, {}, input),
    sops,
    async sopsDecrypt(document, extra = {}) {
      const name = await file(document);
      return JSON.parse(await sops(['decrypt', '--output-type', 'json', name], extra)) as unknown;
    },
    async sopsEncrypt(plain, args, extra = {}) {
      const name = await file(plain);
      await sops(['encrypt', '--in-place', ...args, name], extra);
      return readFile(name, 'utf8');
    },
  };
}

/** Generates an age key without writing it to a file. */
export async function makeAgeKey(): Promise<{ secretKey: string; recipient: string }> {
  const secretKey = await generateX25519Identity();
  return { secretKey, recipient: await identityToRecipient(secretKey) };
}
