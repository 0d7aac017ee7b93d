import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import type { Command } from 'commander';

import {
  mustRead,
  openForEdit,
  recipientsOfSecret,
  replaceSecret,
  withRecipients,
  withValue,
  withoutRecipients,
} from '../../core/cache/edit-secret.ts';
import type { EditableSecret } from '../../core/cache/edit-secret.ts';
import type { OpenCache } from '../../core/cache/open-cache.ts';
import {
  openSecret,
  parseSecret,
  privateDocument,
  publicKeysOf,
  readSecret,
  signingDocument,
} from '../../core/cache/secret-config.ts';
import type { PrivateConfig, SecretKind, SigningConfig } from '../../core/cache/secret-config.ts';
import { assertApart, createSecrets } from '../../core/cache/write-secret.ts';
import { NicheError, isNicheError, messageOf, quote } from '../../core/errors.ts';
import { describeRecipient } from '../../core/secrets/recipient.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { nameCache } from '../cache-url.ts';
import { editValid } from '../config/edit-valid.ts';
import type { Context } from '../context.ts';
import { keyringOf } from '../identities.ts';
import { addRecipientOptions, recipientsOf } from '../init/recipients.ts';
import type { RecipientFlags } from '../init/recipients.ts';
import { openNamedCache } from '../open-cache.ts';
import { addCacheOption } from '../upload/options.ts';

interface ConfigFlags {
  readonly cacheUrl?: string;
  readonly signing: boolean;
}

interface ShowFlags extends ConfigFlags {
  readonly reveal: boolean;
  readonly json: boolean;
}

type RecipientsFlags = ConfigFlags & RecipientFlags & { readonly unsafeShareSigningKey: boolean };

export function addConfig(program: Command, context: Context): void {
  const config = program
    .command('config')
    .summary('the cache’s encrypted configuration')
    .description(
      'Shows or changes the two secret documents of a cache, which the real sops reads as well: niche.private.json, what clients need to stage; with --signing niche.signing.json, what the publisher signs with. To change them takes credentials of one’s own that may write there.',
    );
  const add = (name: string, summary: string, description: string): Command =>
    addCacheOption(config.command(name).summary(summary).description(description)).option(
      '--signing',
      'niche.signing.json, instead of niche.private.json',
      false,
    );

  add(
    'show',
    'who can read it, and what it says',
    'Shows for whom a document is encrypted, and what it says, secrets left out.',
  )
    .option('--reveal', 'show the secrets too', false)
    .option('--json', 'print the result as JSON', false)
    .addHelpText('after', examples('niche config show -u https://cache.example.org'))
    .action(async (flags: ShowFlags) => show(flags, context));
  add(
    'edit',
    'change it in an editor',
    'Opens a document in VISUAL or EDITOR, and puts it back, encrypted for the same recipients, if it is valid and nobody else changed it meanwhile. What is not valid can be edited again, on a terminal.',
  )
    .addHelpText(
      'after',
      examples('EDITOR="code --wait" niche config edit -u https://cache.example.org'),
    )
    .action(async (flags: ConfigFlags) => edit(flags, context));
  add(
    'download',
    'the document as it is, encrypted',
    'Writes a document as it is, encrypted, to a file or stdout, as for sops.',
  )
    .argument('[file]', 'where to; else stdout')
    .addHelpText(
      'after',
      examples('niche config download -u https://cache.example.org niche.private.json'),
    )
    .action(async (file: string | undefined, flags: ConfigFlags) => download(file, flags, context));
  add(
    'upload',
    'a document that sops or niche made',
    'Puts a document there that sops or niche made, if this machine can decrypt it and it is valid.',
  )
    .argument('<file>', 'the encrypted document, "-" for stdin')
    .option('--unsafe-share-signing-key', 'even if clients could read the signing key', false)
    .addHelpText(
      'after',
      examples('niche config upload -u https://cache.example.org niche.private.json'),
    )
    .action(async (file: string, flags: RecipientsFlags) => upload(file, flags, context));
  addRecipientOptions(
    add(
      'add-recipient',
      'let someone read it',
      'Encrypts a document for one more recipient, or several.',
    ),
    '',
    'whoever is to read it',
  )
    .option('--unsafe-share-signing-key', 'even if clients could read the signing key', false)
    .addHelpText(
      'after',
      examples('niche config add-recipient -u https://cache.example.org --age age1…'),
    )
    .action(async (flags: RecipientsFlags) => changeRecipients('add', flags, context));
  addRecipientOptions(
    add(
      'remove-recipient',
      'let someone read it no more',
      'Encrypts a document anew without some of its recipients. What they have saved they can still read: replace the credentials in it as well.',
    ),
    '',
    'whoever is not to read it any more',
  )
    .addHelpText(
      'after',
      examples('niche config remove-recipient -u https://cache.example.org --pgp 7FB8…57C0'),
    )
    .action(async (flags: RecipientsFlags) => changeRecipients('remove', flags, context));
}

function examples(line: string): string {
  return `\nExamples:\n  ${line}`;
}

type Value = PrivateConfig | SigningConfig;

interface Opened {
  readonly cache: OpenCache;
  readonly kind: SecretKind<Value>;
  /** Where the document lies. */
  readonly root: Bucket;
}

async function open(flags: ConfigFlags, context: Context): Promise<Opened> {
  const cache = await openNamedCache(nameCache(flags.cacheUrl, [], context), context);
  return flags.signing
    ? { cache, kind: signingDocument, root: cache.private }
    : { cache, kind: privateDocument, root: cache.public };
}

async function show(flags: ShowFlags, context: Context): Promise<void> {
  const { kind, root } = await open(flags, context);
  const stored = await mustRead(root, kind);
  const recipients = recipientsOfSecret(stored).map(describeRecipient);
  const value = await openSecret(stored, kind, keyringOf(context).identities).then(
    ({ value }) => (flags.reveal ? value : withoutSecrets(value)),
    (error: unknown) => {
      if (!isNicheError(error, 'no-identity', 'identity-failed')) throw error;
      return null;
    },
  );
  if (flags.json) {
    context.stdout.write(`${JSON.stringify({ document: kind.key, recipients, value })}\n`);
    return;
  }
  context.stdout.write(
    `${stored.where}\nencrypted for:\n${recipients.map((each) => `  ${each}\n`).join('')}${
      value === null ? 'not for this machine\n' : `${JSON.stringify(value, null, 2)}\n`
    }`,
  );
}

/** For people to look at. */
function withoutSecrets(value: Value): object {
  if ('secretKeys' in value) return { version: value.version, publicKeys: publicKeysOf(value) };
  const { credentials, ...rest } = value;
  if (!credentials) return rest;
  const hidden = Object.entries(credentials).map(([name, each]) => [
    name,
    name === 'kind' || name === 'accessKeyId' ? each : '(hidden)',
  ]);
  // Not secret, and good to know in time.
  const expires = new URLSearchParams(
    credentials.kind === 'azure' ? credentials.sas : undefined,
  ).get('se');
  return {
    ...rest,
    credentials: Object.fromEntries(hidden) as object,
    ...(expires === null ? {} : { expires }),
  };
}

async function edit(flags: ConfigFlags, context: Context): Promise<void> {
  const { kind, root } = await open(flags, context);
  const secret = await openForEdit(root, kind, keyringOf(context));
  const value = await editValid(
    {
      text: `${JSON.stringify(secret.value, null, 2)}\n`,
      name: kind.key,
      where: secret.stored.where,
      parse: (text) => parseEdited(text, kind),
    },
    context,
  );
  if (JSON.stringify(value) === JSON.stringify(secret.value)) {
    context.stderr.write('niche: nothing was changed\n');
    return;
  }
  await save(root, kind, withValue(secret, value), secret, context);
}

/** @throws NicheError `malformed-secrets`, `newer-version` */
function parseEdited(text: string, kind: SecretKind<Value>): Value {
  let plain: unknown;
  try {
    plain = JSON.parse(text);
  } catch {
    // The parser's own message would quote what may be a secret.
    throw new NicheError('malformed-secrets', 'what the editor left is not JSON');
  }
  return parseSecret(plain, kind, 'what the editor left');
}

async function save(
  root: Bucket,
  kind: SecretKind<Value>,
  text: string,
  { stored }: Pick<EditableSecret<Value>, 'stored'>,
  context: Context,
): Promise<void> {
  await replaceSecret(root, kind.key, text, stored);
  const recipients = recipientsOfSecret({ ...stored, text }).map(describeRecipient);
  context.stderr.write(`niche: wrote ${stored.where}, for ${recipients.join(', ')}\n`);
}

async function download(
  file: string | undefined,
  flags: ConfigFlags,
  context: Context,
): Promise<void> {
  const { kind, root } = await open(flags, context);
  const { text } = await mustRead(root, kind);
  if (file === undefined) context.stdout.write(text);
  else await writeFile(path.resolve(context.cwd, file), text);
}

async function upload(file: string, flags: RecipientsFlags, context: Context): Promise<void> {
  const { cache, kind, root } = await open(flags, context);
  const text = await readInput(file, context);
  const before = await readSecret(root, kind);
  const where = before?.where ?? `${kind.key} of ${root.url}`;
  const stored = { text, where: file, etag: '' };
  await openSecret(stored, kind, keyringOf(context).identities);
  const recipients = recipientsOfSecret(stored);
  await assertStillApart(cache, flags, recipients);
  if (before) await save(root, kind, text, { stored: { ...before, where } }, context);
  else await createSecrets(cache, flags.signing ? { signing: text } : { private: text });
}

async function readInput(file: string, { cwd, stdin }: Context): Promise<string> {
  if (file === '-') return readAll(stdin);
  try {
    return await readFile(path.resolve(cwd, file), 'utf8');
  } catch (cause) {
    throw new NicheError('not-found', `cannot read ${quote(file)}: ${messageOf(cause)}`, { cause });
  }
}

async function changeRecipients(
  how: 'add' | 'remove',
  flags: RecipientsFlags,
  context: Context,
): Promise<void> {
  const { cache, kind, root } = await open(flags, context);
  const recipients = await recipientsOf(flags, cache.config.name);
  if (recipients.length === 0) {
    throw new NicheError('usage', 'which recipient? none was named', {
      hint: 'give one with --age, --pgp, --aws-kms, --gcp-kms or --azure-kv',
    });
  }
  const keyring = keyringOf(context);
  if (how === 'add') await assertStillApart(cache, flags, recipients);
  const secret = await openForEdit(root, kind, keyring);
  const change = how === 'add' ? withRecipients : withoutRecipients;
  const text = await change(secret, recipients, keyring);
  await save(root, kind, text, secret, context);
  if (how === 'remove') context.stderr.write(`niche: ${afterRemoval(flags, secret.value)}\n`);
}

/** What else it takes, since whoever was removed may have kept a copy. */
function afterRemoval({ signing, cacheUrl }: ConfigFlags, value: Value): string {
  const u = cacheUrl === undefined ? '' : `-u ${cacheUrl} `;
  if (signing) {
    return `whoever was removed may have kept the signing key: niche key rotate ${u}, niche resign ${u}, then niche key retire`;
  }
  if ('credentials' in value && value.credentials !== undefined) {
    return `whoever was removed may have kept the storage's credentials: make new ones there, put them into the document with niche config edit ${u}, and delete the old ones`;
  }
  return 'the document has no credentials that would have to be replaced';
}

/** @throws NicheError `unsafe-recipients` when the other document's readers and these overlap */
async function assertStillApart(
  cache: OpenCache,
  { signing, unsafeShareSigningKey }: RecipientsFlags,
  recipients: readonly Recipient[],
): Promise<void> {
  if (unsafeShareSigningKey) return;
  const other = signing
    ? await readSecret(cache.public, privateDocument)
    : await readSecret(cache.private, signingDocument);
  if (!other) return;
  const others = recipientsOfSecret(other);
  if (signing) assertApart(others, recipients);
  else assertApart(recipients, others);
}
