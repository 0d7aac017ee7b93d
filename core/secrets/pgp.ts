import { NicheError, quote } from '../errors.ts';
import { gpgErrorCodes, runGpg } from './gpg.ts';
import type { GpgOptions, GpgResult } from './gpg.ts';
import type { Identity, PgpRecipient } from './recipient.ts';

/** What the user's gpg can decrypt, with its agent, smartcards and pinentry. */
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
        tried.add(`${program}, which is not installed`);
        return null;
      }
      tried.add(`the secret keys of ${program}${home}`);
      // An old gpg may drop what it cannot read, and succeed with nothing.
      if (result.ok && result.output.length > 0) return result.output;
      if (lacksSecretKey(result)) return null;
      const id = recipient.kind === 'pgp' ? recipient.fingerprint : '';
      const [reason, hint] = explain(result);
      throw new NicheError(
        'identity-failed',
        `gpg did not decrypt the data key for ${quote(id)}: ${reason}`,
        { ...(hint === undefined ? {} : { hint }) },
      );
    },
  };
}

/** Whether it has none of the keys that the message is for. */
function lacksSecretKey({ status }: GpgResult): boolean {
  const count = (keyword: string): number =>
    status.filter((line) => line.startsWith(`${keyword} `)).length;
  return count('NO_SECKEY') > 0 && count('NO_SECKEY') >= count('ENC_TO');
}

/** libgpg-error's numbers, as far as a user can do something about them. */
const reasons: ReadonlyMap<number, readonly [reason: string, hint: string]> = new Map([
  [11, ['the passphrase was wrong', 'try again with the right passphrase']],
  [31, ['gpg-agent did not answer', 'restart it with: gpgconf --kill gpg-agent']],
  [77, ['there is no gpg-agent', 'start it with: gpgconf --launch gpg-agent']],
  [
    85,
    ['there is no pinentry to ask for the passphrase', 'set GPG_TTY=$(tty), or install a pinentry'],
  ],
  [99, ['the request for the passphrase was cancelled', 'try again, and enter the passphrase']],
  [112, ['the smartcard is not there', 'insert the card that has the key']],
  [
    177,
    ['the passphrase was not given', 'set GPG_TTY=$(tty), or unlock the key in the agent first'],
  ],
]);

function explain(result: GpgResult): readonly [reason: string, hint?: string] {
  const known = gpgErrorCodes(result.status)
    .map((code) => reasons.get(code))
    .find((reason) => reason !== undefined);
  if (known) return known;
  if (result.output.length === 0 && result.ok) return ['it gave nothing: it may be too old'];
  return [result.complaint === '' ? 'it did not say why' : quote(result.complaint)];
}

/** The second field of a key's line in `--with-colons`, GnuPG's doc/DETAILS. */
const validities: Readonly<Record<string, string>> = {
  r: 'the key is revoked',
  e: 'the key is expired',
  d: 'the key is disabled',
  i: 'the key is invalid',
};

/** @throws NicheError `unusable-recipient`: unknown to this gpg, revoked, expired… */
export async function wrapForPgp(
  gpg: GpgOptions,
  { fingerprint }: PgpRecipient,
  dataKey: Uint8Array,
): Promise<string> {
  const result = await runGpg(
    gpg,
    [
      ...['--encrypt', '--armor', '--no-encrypt-to', '--no-default-recipient', '--yes'],
      // The administrator names the key by its whole fingerprint: that is the trust it takes.
      ...['--trust-model', 'always', '--recipient', fingerprint],
    ],
    dataKey,
  );
  if (result?.ok === true && result.output.length > 0)
    return result.output.toString('latin1').trim();
  const why = result === null ? 'gpg is not installed' : await refusalOf(gpg, fingerprint, result);
  throw new NicheError(
    'unusable-recipient',
    `cannot encrypt for the PGP key ${quote(fingerprint)}: ${why}`,
    {
      hint: `look at it with: gpg --list-keys ${fingerprint}; fetch it with: gpg --receive-keys …`,
    },
  );
}

/** What gpg 2.2 says of a key that it will not encrypt for is only that it will not. */
async function refusalOf(
  gpg: GpgOptions,
  fingerprint: string,
  { complaint }: GpgResult,
): Promise<string> {
  const listed = await runGpg(gpg, ['--with-colons', '--list-keys', fingerprint], '');
  const [, validity] = /^pub:([a-z-]?)/m.exec(listed?.output.toString('latin1') ?? '') ?? [];
  if (validity === undefined) return 'gpg does not have its public key';
  return validities[validity] ?? quote(complaint);
}
