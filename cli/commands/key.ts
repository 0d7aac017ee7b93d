import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import type { Command } from 'commander';

import { NicheError, quote } from '../../core/errors.ts';
import { shellWord } from '../../core/util/shell.ts';
import { openCacheReader } from '../../core/cache/open.ts';
import { findDependents } from '../../core/cache/keys/resign.ts';
import { retireKey, rotateKey } from '../../core/cache/keys/rotate.ts';
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseSecretKey,
} from '../../core/nix/keys.ts';
import { formatSignerSpec, parseSignerSpec } from '../../core/signing/signer-spec.ts';
import type { SignerSpec } from '../../core/signing/signer-spec.ts';
import { isErrno } from '../../core/util/errno.ts';
import { parseCacheAddress, normalizeCacheUrl, printedCacheOption } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from '../secrets/identities.ts';
import { publicKeyOf } from '../init/signing-key.ts';
import { openAsAdministrator, ownAccess } from '../cache/open.ts';
import {
  defaultSecretKeyFile,
  readSecretKeyFile,
  writeSecretKeyFile,
} from '../secrets/signing-keys.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption } from '../ui/options.ts';

interface GenerateFlags {
  readonly name: string;
  readonly secretKeyFile?: string;
  readonly json: boolean;
}

interface RotateFlags {
  readonly cacheUrl?: string;
  readonly keyName?: string;
  readonly json: boolean;
}

interface ShowFlags {
  readonly signer?: SignerSpec;
  readonly cacheUrl?: string;
  readonly json: boolean;
}

export function addKey(program: Command, context: Context): void {
  const key = program
    .command('key')
    .summary('generate, show, rotate or retire signing keys')
    .description(
      'Generates or shows signing keys in Nix’s format, and changes the keys of a cache.',
    );
  addGenerate(key, context);
  addShowKey(key, context);
  addRotate(key, context);
  addRetire(key, context);
}

function addGenerate(key: Command, context: Context): void {
  const command = key
    .command('generate')
    .summary('generate a signing key')
    .description(
      'Generates a signing key and prints its public key. The secret key goes to a file that only you ' +
        'can read. An existing file is not replaced.',
    )
    .requiredOption('--name <name>', 'key name, such as acme-2')
    .option('--secret-key-file <file>', 'target file (default: in ~/.config/niche/keys)')
    .option('--json', 'print the result as JSON', false)
    .action(async (flags: GenerateFlags) => {
      await generate(flags, context);
    });
  addExamples(
    command,
    'niche key generate --name acme-2',
    'niche key generate --name acme-2 --secret-key-file ./acme-2.secret',
  );
}

function addShowKey(key: Command, context: Context): void {
  const command = key
    .command('show')
    .summary('show the public key of a secret key')
    .description(
      'Prints the public key of a secret key. With -u it also checks whether the cache uses the key; ' +
        'if not, the exit status is 1.',
    )
    .argument('[file]', 'secret key file (default: standard input)')
    .option(
      '--signer <key>',
      'key of a KMS instead: aws-kms:<ARN, ID or alias/…>?name=<key name>',
      parseSignerSpec,
    )
    .option('-u, --cache-url <url>', 'cache that should use the key')
    .option('--json', 'print the result as JSON', false)
    .action(async (file: string | undefined, flags: ShowFlags) => {
      await show(file, flags, context);
    });
  addExamples(
    command,
    'niche key show ./acme-2.secret',
    'niche key show -u s3://acme < ./acme-2.secret',
    "niche key show --signer 'aws-kms:alias/acme?name=acme-1'",
  );
}

function addRotate(key: Command, context: Context): void {
  const command = addCacheOption(
    key
      .command('rotate')
      .summary('add a new signing key to a cache')
      .description(
        'Adds a signing key to niche.signing.json; from then on all keys sign. Requires an identity ' +
          'that can decrypt that document, and credentials that can write it.',
      ),
  )
    .option('--key-name <name>', 'name of the new key (default: the newest name, counted up)')
    .option('--json', 'print the result as JSON', false)
    .action(async (flags: RotateFlags) => rotate(flags, context));
  addExamples(command, 'niche key rotate -u s3://acme', 'niche resign -u s3://acme');
}

function addRetire(key: Command, context: Context): void {
  const command = addCacheOption(
    key
      .command('retire')
      .summary('remove a signing key from a cache')
      .description(
        'Removes a key from niche.json and niche.signing.json. It refuses while a published path has ' +
          'no other valid signature: run `niche resign` first.',
      )
      .argument('<name>', 'key name, such as acme-1, or the public key'),
  )
    .option('--json', 'print the result as JSON', false)
    .action(async (name: string, flags: RotateFlags) => retire(name, flags, context));
  addExamples(command, 'niche resign -u s3://acme', 'niche key retire -u s3://acme acme-1');
}

async function rotate(flags: RotateFlags, context: Context): Promise<void> {
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  const name = flags.keyName ?? nextName(cache.config.publicKeys);
  const publicKey = await rotateKey(cache, name, keyringOf(context));
  const u = printedCacheOption(flags.cacheUrl);
  context.stdout.write(
    flags.json
      ? `${JSON.stringify({ publicKey })}\n`
      : `new public key: ${publicKey}

Restart workers, which then sign with both keys. To sign published paths with the new key, run:
  niche resign${u}
To trust the new key, readers run:
  niche use ${cache.config.substituter}
`,
  );
}

/** Returns `acme-2` after `acme-1`. */
function nextName(publicKeys: readonly string[]): string {
  const newest = (publicKeys.at(-1) ?? '').split(':')[0] ?? '';
  const [, stem = newest, number = '1'] = /^(.*)-(\d+)$/.exec(newest) ?? [];
  return `${stem}-${Number(number) + 1}`;
}

/** How many days Nix caches a narinfo by default: `narinfo-cache-positive-ttl`. */
const narInfoDays = 30;

async function retire(text: string, flags: RotateFlags, context: Context): Promise<void> {
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  const { publicKeys, name } = cache.config;
  const publicKey = publicKeys.find((key) => key === text || key.startsWith(`${text}:`));
  if (publicKey === undefined || publicKeys.length === 1) {
    const why =
      publicKey === undefined ? 'the cache has no such key' : 'the cache has no other key';
    const u = printedCacheOption(flags.cacheUrl);
    throw new NicheError('wrong-key', `cannot retire ${quote(text)} of ${quote(name)}: ${why}`, {
      hint:
        publicKey === undefined
          ? `pass one of ${publicKeys.map(quote).join(', ')}`
          : `to add a key first, run niche key rotate${u}`,
    });
  }
  const dependents = await findDependents(cache, publicKey);
  if (dependents.length > 0) {
    const u = printedCacheOption(flags.cacheUrl);
    throw new NicheError(
      'key-in-use',
      `cannot retire ${quote(publicKey)}: it is the only valid signature of ${dependents.join(', ')}${dependents.length < 20 ? '' : ' …'}`,
      { hint: `to sign them with the other keys first, run niche resign${u}` },
    );
  }
  await retireKey(cache, publicKey, keyringOf(context));
  const until = new Date(Date.now() + narInfoDays * 86_400_000).toISOString().slice(0, 10);
  context.stdout.write(
    flags.json
      ? `${JSON.stringify({ publicKey, keepTrustedUntil: until })}\n`
      : `retired ${publicKey}

Readers must trust the new key from now on. They should keep the old key until ${until}:
Nix caches narinfos for ${narInfoDays} days, and cached ones may have no other signature.
`,
  );
}

async function generate(flags: GenerateFlags, context: Context): Promise<void> {
  const { name } = flags;
  const secretKey = generateSecretKey(name);
  const file = secretKeyFileOf(flags, context);
  try {
    await writeSecretKeyFile(file, formatSecretKey(secretKey));
  } catch (error) {
    if (!(error instanceof NicheError && isErrno(error.cause, 'EEXIST'))) throw error;
    throw new NicheError('usage', `cannot create the key file ${quote(file)}: it already exists`, {
      cause: error,
      hint: 'pass another file with --secret-key-file',
    });
  }
  const publicKey = formatPublicKey(secretKey.publicKey);
  context.stdout.write(
    flags.json
      ? `${JSON.stringify({ publicKey, secretKeyFile: file })}\n`
      : `public key: ${publicKey}\nsecret key: ${file} (back it up, it cannot be recreated)\n`,
  );
}

/**
 * Returns the file for a new key.
 *
 * @throws NicheError `usage` when the name is not a file name, since it could lead out of the folder
 */
function secretKeyFileOf({ name, secretKeyFile }: GenerateFlags, context: Context): string {
  if (secretKeyFile !== undefined) return path.resolve(context.cwd, secretKeyFile);
  if (/[/\\]|^\./.test(name)) {
    throw new NicheError(
      'usage',
      `no default file for the key ${quote(name)}: expected a file name`,
      {
        hint: 'pass the file with --secret-key-file',
      },
    );
  }
  return defaultSecretKeyFile(context.env, name);
}

async function show(file: string | undefined, flags: ShowFlags, context: Context): Promise<void> {
  const publicKey = flags.signer
    ? await readSignerKey(flags.signer, file, context)
    : formatPublicKey(parseSecretKey(await readSecretKey(file, context)).publicKey);
  if (flags.cacheUrl === undefined) {
    context.stdout.write(flags.json ? `${JSON.stringify({ publicKey })}\n` : `${publicKey}\n`);
    return;
  }
  const { config } = await openCacheReader(
    normalizeCacheUrl(flags.cacheUrl, context.cwd),
    ownAccess(context),
  );
  const isCacheKey = config.publicKeys.includes(publicKey);
  context.stdout.write(
    flags.json
      ? `${JSON.stringify({ publicKey, cache: config.name, isCacheKey })}\n`
      : `${publicKey}\n`,
  );
  context.stderr.write(
    isCacheKey
      ? `niche: the cache ${config.name} uses this key\n`
      : `niche: the cache ${config.name} does not use this key, but ${config.publicKeys.join(' and ')}\n`,
  );
  if (!isCacheKey) context.setExitStatus(1);
}

async function readSignerKey(
  spec: SignerSpec,
  file: string | undefined,
  context: Context,
): Promise<string> {
  if (file !== undefined) {
    throw new NicheError('usage', 'two keys given: expected a file or --signer');
  }
  if (spec.name === null) {
    throw new NicheError('usage', 'no key name given: a KMS does not store the name of a key', {
      hint: `pass it like --signer ${shellWord(formatSignerSpec({ ...spec, name: 'acme-1' }))}`,
    });
  }
  return publicKeyOf({ ...spec, name: spec.name }, context);
}

async function readSecretKey(file: string | undefined, context: Context): Promise<string> {
  if (file === undefined || file === '-') {
    const text = context.stdin.isTTY ? '' : (await readAll(context.stdin)).trim();
    if (text !== '') return text;
    throw new NicheError('usage', 'no key given', {
      hint: 'pass a file, or the secret key on standard input',
    });
  }
  const found = await readSecretKeyFile(path.resolve(context.cwd, file));
  if (found === null) throw new NicheError('not-found', `no key file ${quote(file)}`);
  return found;
}
