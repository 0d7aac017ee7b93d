import { readFile } from 'node:fs/promises';

import { InvalidArgumentError } from 'commander';

import { NicheError, messageOf } from '../../core/errors.ts';
import { isLoopback } from '../loopback.ts';
import { nonEmpty } from '../environment.ts';
import type { Environment } from '../environment.ts';

/** Where to listen. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:8080`, `[::1]:8080`, or a port alone, which means this machine only. */
export function parseListen(text: string): ListenAddress {
  const [, bracketed, plain, digits = ''] =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):)?([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535) {
    throw new InvalidArgumentError('expected host:port, as 127.0.0.1:8080 or [::1]:8080');
  }
  return { host: bracketed ?? plain ?? '127.0.0.1', port };
}

/** What senders of notifications prove themselves by. */
export interface WebhookSecrets {
  readonly token: string | undefined;
  readonly b2Secret: string | undefined;
}

/**
 * Reads the secrets from the files that were named, else from the environment: never from the
 * command line, which every user of a machine can read.
 *
 * @throws NicheError `storage-denied` when a file cannot be read, `usage` when it is empty
 */
export async function readWebhookSecrets(
  files: { readonly tokenFile?: string | undefined; readonly b2SecretFile?: string | undefined },
  env: Environment,
): Promise<WebhookSecrets> {
  return {
    token: await readSecret(files.tokenFile, env['NICHE_WEBHOOK_TOKEN']),
    b2Secret: await readSecret(files.b2SecretFile, env['NICHE_B2_SIGNING_SECRET']),
  };
}

async function readSecret(
  file: string | undefined,
  variable: string | undefined,
): Promise<string | undefined> {
  if (file === undefined) return nonEmpty(variable?.trim());
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw new NicheError(
      'storage-denied',
      `cannot read the webhook's secret in ${file}: ${messageOf(cause)}`,
      { cause },
    );
  }
  if (text === '') {
    throw new NicheError('usage', `expected the webhook's secret in ${file}, got an empty file`);
  }
  return text;
}

/**
 * Refuses to listen to whoever reaches this machine.
 *
 * @throws NicheError `usage`
 */
export function assertGuarded(address: string, { token, b2Secret }: WebhookSecrets): void {
  if (isLoopback(address) || token !== undefined || b2Secret !== undefined) return;
  throw new NicheError(
    'usage',
    `other machines can reach ${address}: expected a secret by which senders prove themselves`,
    {
      hint: 'give a token with --token-file or NICHE_WEBHOOK_TOKEN, B2’s signing secret with --b2-secret-file or NICHE_B2_SIGNING_SECRET, or listen on 127.0.0.1',
    },
  );
}
