import { NicheError, quote } from '../errors.ts';
import { gpgErrorCodes, runGpg } from './gpg.ts';
import type { GpgOptions, GpgResult } from './gpg.ts';
import type { Identity, PgpRecipient } from './recipient.ts';

/** Returns the identity of the user's gpg, with its agent, smartcards and pinentry. */
export function pgpIdentity(gpg: GpgOptions): Identity {
  const tried = new Set<string>();
  const { program = 'gpg', env } = gpg;
  const home = env['GNUPGHOME'] === undefined ? '' : ` in ${env['GNUPGHOME']}`;
  return {
    kind: 'pgp',
    tried: () => [...tried],
    async unwrap({ recipient, wrapped }) {
      const result = await runGpg(gpg, ['--decrypt'], wrapped);
      if (result === null) {
        tried.add(`${program} (not installed)`);
        return null;
      }
      tried.add(`the secret keys of ${program}${home}`);
      // An old gpg may skip a message that it cannot parse, and succeed without output.
      if (result.ok && result.output.length > 0) return result.output;
      if (lacksSecretKey(result)) return null;
      const id = recipient.kind === 'pgp' ? recipient.fingerprint : '';
      const [reason, hint] = explain(result);
      throw new NicheError(
        'identity-failed',
        `decrypting the data key for the PGP key ${quote(id)}: ${reason}`,
        { ...(hint === undefined ? {} : { hint }) },
      );
    },
  };
}

/** Whether gpg has none of the keys that the message is encrypted for. */
function lacksSecretKey({ status }: GpgResult): boolean {
  const count = (keyword: string): number =>
    status.filter((line) => line.startsWith(`${keyword} `)).length;
  return count('NO_SECKEY') > 0 && count('NO_SECKEY') >= count('ENC_TO');
}

/** The libgpg-error codes that a user can act on (libgpg-error's src/err-codes.h.in). */
const reasons: ReadonlyMap<number, readonly [reason: string, hint: string]> = new Map([
  [11, ['wrong passphrase', 'try again with the right passphrase']],
  [31, ['no response from gpg-agent', 'gpgconf --kill gpg-agent']],
  [77, ['gpg-agent is not running', 'gpgconf --launch gpg-agent']],
  [85, ['no pinentry to ask for the passphrase', 'export GPG_TTY=$(tty), or install a pinentry']],
  [99, ['the passphrase prompt was cancelled', 'try again, and enter the passphrase']],
  [112, ['no smartcard', 'insert the card that holds the key']],
  [177, ['no passphrase', 'export GPG_TTY=$(tty), or unlock the key in the agent first']],
]);

function explain(result: GpgResult): readonly [reason: string, hint?: string] {
  const known = gpgErrorCodes(result.status)
    .map((code) => reasons.get(code))
    .find((reason) => reason !== undefined);
  if (known) return known;
  if (result.output.length === 0 && result.ok) return ['no output: this gpg may be too old'];
  return [result.complaint === '' ? 'gpg reported no reason' : quote(result.complaint)];
}

/** The second field of a key's line in `--with-colons` output (GnuPG's doc/DETAILS). */
const validities: Readonly<Record<string, string>> = {
  r: 'the key is revoked',
  e: 'the key is expired',
  d: 'the key is disabled',
  i: 'the key is invalid',
};

/**
 * Encrypts a data key for a PGP key, as an armored message.
 *
 * @throws NicheError `unusable-recipient` for an unknown, revoked, expired or disabled key
 */
export async function wrapForPgp(
  gpg: GpgOptions,
  { fingerprint }: PgpRecipient,
  dataKey: Uint8Array,
): Promise<string> {
  const result = await runGpg(
    gpg,
    [
      ...['--encrypt', '--armor', '--no-encrypt-to', '--no-default-recipient', '--yes'],
      // The administrator specifies the full fingerprint, which replaces gpg's web of trust.
      ...['--trust-model', 'always', '--recipient', fingerprint],
    ],
    dataKey,
  );
  if (result?.ok === true && result.output.length > 0)
    return result.output.toString('latin1').trim();
  const why = result === null ? 'gpg is not installed' : await refusalOf(gpg, fingerprint, result);
  throw new NicheError(
    'unusable-recipient',
    `encrypting for the PGP key ${quote(fingerprint)}: ${why}`,
    {
      hint: `check the key: gpg --list-keys ${fingerprint}`,
    },
  );
}

/** Looks the reason up: gpg 2.2 does not report why it rejects a key. */
async function refusalOf(
  gpg: GpgOptions,
  fingerprint: string,
  { complaint }: GpgResult,
): Promise<string> {
  const listed = await runGpg(gpg, ['--with-colons', '--list-keys', fingerprint], '');
  const [, validity] = /^pub:([a-z-]?)/m.exec(listed?.output.toString('latin1') ?? '') ?? [];
  if (validity === undefined) return 'gpg has no public key for it';
  return validities[validity] ?? quote(complaint);
}
