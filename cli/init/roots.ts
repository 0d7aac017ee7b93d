import type { Command } from 'commander';

import type { CacheConfig } from '../../core/cache/config.ts';
import { openReader } from '../../core/cache/open.ts';
import { cacheInfoKey } from '../../core/cache/layout.ts';
import { NicheError, messageOf, quote } from '../../core/errors.ts';
import type { OpenOptions } from '../../core/storage/credentials.ts';
import { followRedirects } from '../../core/storage/http/follow-redirects.ts';
import { openProvisioner } from '../../core/storage/open/open-provision.ts';
import type { StorageProvisioner } from '../../core/storage/provision.ts';
import { createTransport } from '../../core/util/transport.ts';
import { normalizeCacheUrl } from '../cache/address.ts';
import { ownAccess } from '../cache/open.ts';
import type { Context } from '../process/context.ts';
import { environmentCredentials } from '../secrets/credentials.ts';

export interface RootFlags {
  readonly staging?: string;
  readonly private?: string;
  readonly substituter?: string;
  readonly create: boolean;
}

/** The URLs of a cache: its storage and the URL that readers use. */
export type RootUrls = Pick<CacheConfig, 'storage' | 'staging' | 'private' | 'substituter'>;

/** How long the public URL of the new cache may take to respond. */
const readTimeoutMs = 10_000;

export function addRootOptions(command: Command): Command {
  return command
    .option('--create', 'create missing buckets, the public one readable by everyone', false)
    .option('--staging <url>', 'root for uploads (default: bucket <bucket>-staging)')
    .option('--private <url>', 'root for publishers and audit (default: bucket <bucket>-private)')
    .option('--substituter <url>', 'URL that readers use (default: the bucket’s own address)');
}

/**
 * Returns the URLs of the new cache. Creates the buckets with `--create`, and tests servers whose
 * capabilities are unknown; does not create a directory yet.
 *
 * @throws NicheError `invalid-url`; `usage` when the public URL is unknown; the codes of storage
 */
export async function prepareRoots(
  url: string,
  flags: RootFlags,
  context: Context,
): Promise<RootUrls> {
  const chosen = chosenUrls(flags, context.cwd);
  // Every later command accepts it as the cache's URL, and must be able to open it.
  if (chosen.substituter !== undefined) openReader(chosen.substituter, ownAccess(context));
  if (url.startsWith('file:')) {
    const { staging = url, private: privateUrl = url, substituter = url } = chosen;
    return { storage: url, staging, private: privateUrl, substituter };
  }
  const openWith = (at: string): OpenOptions => ({
    credentials: environmentCredentials(at, context.env),
  });
  const publicRoot = await openProvisioner(url, openWith(url));
  const substituter = chosen.substituter ?? publicRoot.publicUrl;
  if (substituter === null) {
    throw new NicheError(
      'usage',
      `unknown public URL of ${quote(publicRoot.url)}: it does not follow from the bucket name`,
      { hint: publicRoot.publicAdvice },
    );
  }
  const openSibling = (root: 'staging' | 'private'): Promise<StorageProvisioner> => {
    const at = chosen[root] ?? publicRoot.siblingUrl(root);
    return openProvisioner(at, openWith(at));
  };
  const stagingRoot = await openSibling('staging');
  const privateRoot = await openSibling('private');
  if (flags.create) {
    const { notPublic } = await publicRoot.create(true);
    await stagingRoot.create(false);
    await privateRoot.create(false);
    if (notPublic !== undefined) context.stderr.write(`niche: ${notPublic}\n`);
  }
  return {
    storage: await publicRoot.resolveUrl(),
    staging: await stagingRoot.resolveUrl(),
    private: await privateRoot.resolveUrl(),
    substituter,
  };
}

type ChosenUrls = Readonly<Record<'staging' | 'private' | 'substituter', string | undefined>>;

function chosenUrls(flags: RootFlags, cwd: string): ChosenUrls {
  const normalize = (url: string | undefined): string | undefined =>
    url === undefined ? undefined : normalizeCacheUrl(url, cwd);
  return {
    staging: normalize(flags.staging),
    private: normalize(flags.private),
    substituter: normalize(flags.substituter),
  };
}

/** Returns why readers cannot read the new cache, or null if this machine sees no reason. */
export async function whyUnreadable({ storage, substituter }: RootUrls): Promise<string | null> {
  if (storage.startsWith('file:') || !/^https?:/.test(substituter)) return null;
  const url = `${substituter}/${cacheInfoKey}`;
  let why: string;
  try {
    const send = followRedirects(createTransport(readTimeoutMs));
    const { status, body } = await send({ method: 'GET', url, headers: {} });
    body.destroy();
    if (status >= 200 && status < 300) return null;
    why = `HTTP status ${status}`;
  } catch (error) {
    why = messageOf(error);
  }
  const { publicAdvice } = await openProvisioner(storage);
  return `Readers without credentials cannot read ${substituter} (${why}): ${publicAdvice}`;
}
