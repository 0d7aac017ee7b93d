import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { NicheError } from '../../core/errors.ts';
import { cacheNameRule, configVersion, isCacheName, parseConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import { defaultPriority } from '../../core/cache/cache-info.ts';
import { assertNoCache, initCache } from '../../core/cache/init.ts';
import { openUpstreams } from '../../core/cache/open.ts';
import { needsLease, singlePublisherWarning } from '../../core/cache/publish/lease.ts';
import { guardRoots } from '../../core/cache/roots.ts';
import { createSecrets } from '../../core/cache/keys/create.ts';
import { describeRecipient } from '../../core/secrets/recipient.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import { defaultStoreDir } from '../../core/nix/store-path.ts';
import { hasStore } from '../../core/nix/store-url.ts';
import { shellWord } from '../../core/util/shell.ts';
import { secretKeySigner } from '../../core/signing/secret-key.ts';
import type { Signer } from '../../core/signing/signer.ts';
import { parseSignerSpec } from '../../core/signing/signer-spec.ts';
import type { SignerSpec } from '../../core/signing/signer-spec.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { drivers } from '../../core/storage/open/drivers.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { addTrustOptions } from '../adopt/options.ts';
import { normalizeCacheUrl } from '../cache/address.ts';
import { ownAccess } from '../cache/open.ts';
import type { Context } from '../process/context.ts';
import { environmentCredentials } from '../secrets/credentials.ts';
import { addRecipientOptions, recipientsOf, signingFlags } from '../init/recipients.ts';
import type { RecipientFlags } from '../init/recipients.ts';
import { groupAdvice, makeDirectories } from '../init/directories.ts';
import { addRootOptions, prepareRoots, whyUnreadable } from '../init/roots.ts';
import type { RootFlags, RootUrls } from '../init/roots.ts';
import { encryptSecrets, uploadAdvice } from '../init/secrets.ts';
import type { Readers, SecretFlags } from '../init/secrets.ts';
import {
  adoptExisting,
  assertAdoptFlags,
  findExisting,
  keptKeys,
} from '../init/existing-narinfos.ts';
import type { AdoptFlags } from '../init/existing-narinfos.ts';
import { chooseSigningKeys } from '../init/signing-key.ts';
import { describeRights, tryCredentials } from '../init/try-credentials.ts';
import { openNix } from '../nix/nix.ts';
import { openKmsSigner } from '../secrets/signing-keys.ts';
import { addExamples } from '../ui/help.ts';
import { addPublicKey, parsePriority } from '../ui/options.ts';

interface InitFlags extends RecipientFlags, SecretFlags, RootFlags, AdoptFlags {
  readonly name: string;
  readonly keyName?: string;
  readonly secretKeyFile?: string;
  readonly signer?: SignerSpec;
  readonly createKey: boolean;
  readonly upstream: { url: string; publicKey: string }[] | false;
  readonly compression: 'zstd' | 'none';
  readonly level: number;
  readonly listings: boolean;
  readonly keepSignatures?: readonly string[];
  readonly storeDir?: string;
  readonly priority: number;
  readonly json: boolean;
}

const nixosCache = {
  url: 'https://cache.nixos.org',
  publicKey: 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
};

export function addInit(program: Command, context: Context): void {
  const command = program
    .command('init')
    .summary('create a cache')
    .description(
      'Creates a cache in a bucket or directory: nix-cache-info, niche.json and a signing key. An ' +
        'existing cache is not changed.',
    )
    .argument('<url>', drivers.map(({ example }) => example).join(', '))
    .optionsGroup('Cache:')
    .requiredOption('--name <name>', 'name of the cache and of its key', parseName);
  addRootOptions(command)
    .option('--store-dir <dir>', 'store directory (default: that of this machine’s Nix)')
    .option(
      '--upstream <url=key>',
      'skip its paths; repeatable (default: cache.nixos.org if used here)',
      (text: string, before: InitFlags['upstream'] | true) =>
        addUpstream(text, before, context.cwd),
    )
    .option('--no-upstream', 'upload the paths of upstream caches too')
    .option(
      '--priority <number>',
      'order of substituters, lowest first; cache.nixos.org has 40',
      parsePriority,
      defaultPriority,
    )
    .option('--compression <kind>', 'compression of NARs: zstd or none', parseCompression, 'zstd')
    .option('--level <level>', 'zstd level, 1 to 19', parseLevel, 3)
    .option('--no-listings', 'publish no listings of NARs, which `nix store ls` reads')
    .option(
      '--keep-signatures <key>',
      'keep the signatures of this public key; repeatable (always kept: those of upstreams)',
      addPublicKey,
    )
    .optionsGroup('Signing key:')
    .option('--key-name <name>', 'key name (default: <name>-1)')
    .option(
      '--secret-key-file <file>',
      'key file, created if missing (default: in ~/.config/niche/keys)',
    )
    .addOption(
      new Option(
        '--signer <key>',
        'sign in a KMS: aws-kms:<ARN, ID or alias/…> or gcp-kms:<key version>',
      ).argParser(parseSignerSpec),
    )
    .option('--create-key', 'create the AWS KMS key with the alias in --signer', false)
    .optionsGroup('Clients that can upload without further configuration:');
  addRecipientOptions(command, '')
    .option(
      '--upload-credentials <file>',
      'JSON for clients, "-" for stdin (default: $NICHE_UPLOAD_CREDENTIALS)',
    )
    .option('--no-upload-credentials', 'clients use their own credentials')
    .option('--read-credentials <file>', 'JSON for reading a public root that is closed')
    .option('--upload-days <days>', 'lifetime of a generated Azure SAS token', parseDays, 365)
    .option('--upload-role <arn>', 'AWS role that clients assume')
    .option('--unsafe-share-signing-key', 'let clients read the signing key and publish', false)
    .optionsGroup('Publishers that can read the signing key:');
  addRecipientOptions(command, 'signing-')
    .optionsGroup('Narinfos that are in the bucket already:')
    .option('--adopt', 'check and sign them: content-addressed ones, and others as below', false);
  addTrustOptions(command)
    .optionsGroup('Other:')
    .option('--json', 'print the result as JSON', false)
    .action(async (url: string, flags: InitFlags) => {
      await init(url, flags, context);
    });
  addExamples(
    command,
    'niche init file:///srv/cache --name acme',
    "niche init 's3://acme?region=eu-central-1' --create --name acme",
    'niche init azure://account/acme --create --name acme --age age1… --signing-age age1…',
    'niche init /srv/nix-copy --name acme --adopt --trust acme-old-1:…',
    'niche init file:///srv/pr --name acme-pr --upstream file:///srv/cache=acme-1:…',
  );
}

async function init(url: string, flags: InitFlags, context: Context): Promise<void> {
  assertAdoptFlags(flags);
  const readers = {
    clients: await recipientsOf(flags, flags.name),
    publishers: await recipientsOf(signingFlags(flags), flags.name),
  };
  const keys = await chooseSigningKeys(flags, readers, context);
  const { publicKeys, secretKey } = keys;
  const nix = await localNix(context);
  const storeDir = flags.storeDir ?? nix?.storeDir ?? defaultStoreDir;
  const upstreams = upstreamsOf(flags, nix?.substituters ?? []);
  // Every later command opens them, and must be able to.
  const openedUpstreams = openUpstreams({ upstreams, storeDir }, ownAccess(context));
  const roots = await prepareRoots(normalizeCacheUrl(url, context.cwd), flags, context);
  const { storage } = roots;
  const config: CacheConfig = parseConfig(
    JSON.stringify({
      version: configVersion,
      name: flags.name,
      storeDir,
      publicKeys,
      ...roots,
      compression: { kind: flags.compression, level: flags.level },
      ...(flags.listings ? {} : { listings: false }),
      keepSignatures: keptKeys(flags.keepSignatures, flags),
      upstreams,
    }),
    'the configuration of the new cache',
  );
  const open = (root: string): Bucket =>
    openBucket(root, { credentials: environmentCredentials(root, context.env) });
  const buckets = guardRoots({
    public: open(storage),
    staging: open(config.staging),
    private: open(config.private),
  });
  const secrets = await encryptSecrets(readers, config, secretKey, flags, context);
  makeDirectories(roots);
  // Before saving the key: a key without a cache could be mistaken for one in use.
  await assertNoCache(buckets.public);
  const isTried = !flags.unsafeShareSigningKey;
  const isNew = secrets.expires !== undefined;
  const rights = isTried ? await tryCredentials(roots, secrets.credentials, buckets, isNew) : null;
  const existing = await findExisting(buckets.public, flags);
  // The key before the cache: nobody could publish to a cache without its key.
  await keys.save();
  await createSecrets(buckets, secrets);
  await initCache(buckets.public, config, flags.priority);
  if (needsLease(buckets)) {
    context.stderr.write(`niche: ${singlePublisherWarning}\n`);
  }
  const unreadable = await whyUnreadable(roots);

  const advice = await uploadAdvice(config, secrets);
  const adopt = async (): Promise<void> => {
    if (!flags.adopt) return;
    const signers = signersOf(flags.signer, keys, context);
    await adoptExisting(
      { ...buckets, config, upstreams: openedUpstreams, signers },
      flags,
      context,
    );
  };
  if (flags.json) {
    context.stdout.write(
      `${JSON.stringify({ url: storage, ...roots, priority: flags.priority, publicKey: publicKeys[0], ...keys.json, ...describeReaders(readers), ...(rights && { uploadRights: rights }), ...(secrets.expires && { uploadCredentialsExpire: secrets.expires.toISOString() }), ...existing?.json })}\n`,
    );
    await adopt();
    return;
  }
  // Over plain HTTP an attacker could replace the key, so it is part of the URL.
  const readUrl = roots.substituter.startsWith('http:')
    ? `${roots.substituter}#${publicKeys[0] ?? ''}`
    : roots.substituter;
  // Clients that can decrypt the document need only the URL of readers.
  const buildUrl = readers.clients.length > 0 ? readUrl : storage;
  context.stdout.write(`created the cache ${config.name} at ${storage}
${describeRoots(roots)}${publicKeys.map((key) => `public key: ${key}`).join('\n')}
${keys.lines.join('\n')}
upstreams:  ${config.upstreams.map((upstream) => upstream.url).join(', ') || 'none'}
clients:    ${readers.clients.map(describeRecipient).join(', ') || 'anyone with their own credentials'}

${[existing?.text ?? null, unreadable, rights && describeRights(rights), advice, groupAdvice(roots)].map((text) => (text === null ? '' : `${text}\n\n`)).join('')}To read the cache, run:
  niche use ${readUrl}
To build and upload, as in CI, run:
  niche build -u ${shellWord(buildUrl)} -- .#default
`);
  await adopt();
}

/** Returns the signers of a new cache, first that of its KMS. */
function signersOf(
  kms: SignerSpec | undefined,
  { publicKeys, secretKey }: { readonly publicKeys: readonly string[]; readonly secretKey: string },
  context: Context,
): Signer[] {
  const [name = ''] = (publicKeys[0] ?? '').split(':');
  return [
    ...(kms ? [openKmsSigner({ ...kms, name }, publicKeys, context)] : []),
    ...(secretKey === '' ? [] : [secretKeySigner(secretKey)]),
  ];
}

function describeRoots({ storage, staging, private: own, substituter }: RootUrls): string {
  const lines = [
    staging === storage ? '' : `staging:    ${staging}\n`,
    own === storage ? '' : `private:    ${own}\n`,
    substituter === storage ? '' : `read at:    ${substituter}\n`,
  ];
  return lines.join('');
}

function describeReaders({ clients, publishers }: Readers): object {
  const list = (recipients: readonly Recipient[]): string[] => recipients.map(describeRecipient);
  return {
    ...(clients.length === 0 ? {} : { clients: list(clients) }),
    ...(publishers.length === 0 ? {} : { publishers: list(publishers) }),
  };
}

/** Returns settings of this machine's Nix, or null without Nix. */
async function localNix(
  context: Context,
): Promise<{ storeDir: string; substituters: readonly string[] } | null> {
  try {
    const { storeDir, settings } = await openNix({ env: context.env, cwd: context.cwd });
    return { storeDir, substituters: settings.substituters };
  } catch (error) {
    if (error instanceof NicheError) return null;
    throw error;
  }
}

function upstreamsOf(flags: InitFlags, substituters: readonly string[]): CacheConfig['upstreams'] {
  if (flags.upstream === false) return [];
  // commander returns `true` if only the negated option has a default.
  if (Array.isArray(flags.upstream)) return flags.upstream;
  return hasStore(substituters, nixosCache.url) ? [nixosCache] : [];
}

function addUpstream(
  text: string,
  before: InitFlags['upstream'] | true,
  cwd: string,
): InitFlags['upstream'] {
  // A parameter of the URL has "=" too, and so has the end of a key.
  const [, url = '', publicKey = ''] = /^(.+)=([^=:/]+:[^=]+=*)$/.exec(text) ?? [];
  // An InvalidArgumentError would print the value, which may contain a secret key by mistake.
  if (url === '') throw new NicheError('invalid-url', 'invalid --upstream: expected URL=KEY');
  parsePublicKey(publicKey);
  const upstream = { url: normalizeCacheUrl(url, cwd), publicKey };
  return [...(Array.isArray(before) ? before : []), upstream];
}

function parseName(text: string): string {
  if (isCacheName(text)) return text;
  throw new InvalidArgumentError(`expected ${cacheNameRule}`);
}

function parseLevel(text: string): number {
  const level = Number(text);
  if (text !== '' && Number.isInteger(level) && level >= 1 && level <= 19) return level;
  throw new InvalidArgumentError('expected a whole number from 1 to 19');
}

function parseDays(text: string): number {
  const days = Number(text);
  if (/^[0-9]+$/.test(text) && days >= 1 && days <= 3650) return days;
  throw new InvalidArgumentError('expected a whole number from 1 to 3650');
}

function parseCompression(text: string): 'zstd' | 'none' {
  if (text === 'zstd' || text === 'none') return text;
  throw new InvalidArgumentError('expected zstd or none');
}
