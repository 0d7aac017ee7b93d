import { NicheError } from '../../errors.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { drain } from '../../util/streams.ts';
import { createNarCheck } from '../nar/check.ts';
import type { NarFacts } from '../nar/check.ts';
import { parseNarClaim } from '../nar/claim.ts';
import type { StoredNar } from '../nar/store.ts';
import { isSamePath, readNarInfoOrNull } from '../read-narinfo.ts';
import type { AdoptContext } from './context.ts';
import { openNarFile } from './nar-file.ts';
import { catchRefusal } from './refusal.ts';

/** A checked NAR, stored under a key of niche’s own; in a dry run, stored nowhere. */
export type AdoptedNar = StoredNar & Pick<NarFacts, 'listing' | 'unclaimed'>;

/**
 * Checks the NAR that a narinfo of this cache refers to, and stores it under a key with its hash: a NAR
 * under another key could not be found by its contents, to withdraw it. If the NAR is missing or
 * damaged, takes that of the cache `from`.
 *
 * @throws NicheError refusals; `storage-…`
 */
export async function storeCheckedNar(context: AdoptContext, info: NarInfo): Promise<AdoptedNar> {
  const { public: bucket } = context.options;
  const own = await catchRefusal(() => storeNarFile(context, info, bucket, info));
  if (!(own instanceof NicheError)) return own;
  return storeNarOfOther(context, info, own);
}

/**
 * Does the same as {@link storeCheckedNar} with the NAR of the cache `from` alone.
 *
 * @throws NicheError `refusal` when there is no such cache, or it has another path; refusals of its NAR
 */
export async function storeNarOfOther(
  context: AdoptContext,
  info: NarInfo,
  refusal: NicheError,
): Promise<AdoptedNar> {
  const { from, config } = context.options;
  const other = from && (await readNarInfoOrNull(from, storeHash(info.path), config.storeDir));
  if (!from || !other || !isSamePath(other, info)) throw refusal;
  return storeNarFile(context, info, from, other);
}

async function storeNarFile(
  { options, nars }: AdoptContext,
  info: NarInfo,
  reader: ObjectReader,
  file: NarInfo,
): Promise<AdoptedNar> {
  const open = (): AsyncIterable<Uint8Array> => openNarFile(reader, file);
  if (!options.isDryRun) return nars.storeNar(info, open);
  const { storeDir, limits } = options.config;
  const check = await createNarCheck(parseNarClaim(info, storeDir), {
    unclaimed: limits.unclaimed,
    listing: false,
  });
  await drain(check.checkStream(open()));
  const { url, fileHash, fileSize } = file;
  const { compression } = options.config;
  const facts = { fileHash: fileHash ?? '', fileSize: fileSize ?? 0, ...check.facts() };
  return { url, compression: compression.kind, ...facts };
}
