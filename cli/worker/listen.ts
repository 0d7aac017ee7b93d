import { readFile } from 'node:fs/promises';

import { InvalidArgumentError } from 'commander';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { isLoopback } from '../../core/util/loopback.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';

/** The address that a webhook listens on. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Reads `127.0.0.1:8080`, `[::1]:8080`, or a port alone, which listens on 127.0.0.1. */
export function parseListen(text: string): ListenAddress {
  const [, bracketed, plain, digits = ''] =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):)?([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535) {
    throw new InvalidArgumentError('expected host:port, such as 127.0.0.1:8080 or [::1]:8080');
  }
  return { host: bracketed ?? plain ?? '127.0.0.1', port };
}

/** The secrets by which senders of notifications authenticate. */
export interface WebhookSecrets {
  readonly token: string | undefined;
  readonly b2Secret: string | undefined;
}

/** The files that hold {@link WebhookSecrets}. */
export interface WebhookSecretFiles {
  readonly tokenFile?: string | undefined;
  readonly b2SecretFile?: string | undefined;
}

/**
 * Reads the secrets from their files, else from the environment; never from the command line, which
 * all users of a machine can read.
 *
 * @throws NicheError `storage-denied` when a file cannot be read, `usage` when it is empty
 */
export async function readWebhookSecrets(
  files: WebhookSecretFiles,
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
      `cannot read the webhook secret ${quote(file)}: ${messageOf(cause)}`,
      { cause },
    );
  }
  if (text === '') {
    throw new NicheError(
      'usage',
      `cannot use the webhook secret ${quote(file)}: the file is empty`,
    );
  }
  return text;
}

/**
 * Refuses to listen without a secret where other machines can connect.
 *
 * @throws NicheError `usage`
 */
export function assertGuarded(address: string, { token, b2Secret }: WebhookSecrets): void {
  if (isLoopback(address) || token !== undefined || b2Secret !== undefined) return;
  throw new NicheError(
    'usage',
    `refusing to listen on "${address}" without a secret: other machines can connect`,
    { hint: 'pass --token-file or --b2-secret-file, or listen on 127.0.0.1' },
  );
}
