import { NicheError } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import type { Provenance } from '../audit.ts';
import { narInfoKey } from '../layout.ts';
import { blockedError } from '../publish/conflicts.ts';
import { createCandidate, readUnsigned } from './check-path.ts';
import type { UnsignedNarInfo } from './check-path.ts';
import type { AdoptContext } from './context.ts';
import { catchRefusal } from './refusal.ts';
import { signAndReplace } from './replace.ts';
import type { ReadyNarInfo } from './replace.ts';

/** Narinfos read at once. */
const readsAtOnce = 16;
/** NARs checked at once: each takes the memory of a few frames. */
const narsAtOnce = 2;
/** Missing references that a message names. */
const maxNamed = 5;

/**
 * Gives narinfos the signature of the cache, after the checks of a publisher. Signs them together, so
 * that they share an object of the audit log, and replaces each after its references.
 *
 * @param hashes each after its references among them
 * @param adopted the store paths that this run has adopted; it grows
 * @throws NicheError `upstream-unavailable`, `wrong-key`, `signer-…`, `storage-…`
 */
export async function adoptGroup(
  context: AdoptContext,
  hashes: readonly string[],
  adopted: Set<string>,
): Promise<void> {
  const unsigned = await readGroup(context, hashes);
  const complete = await withReferences(context, unsigned, adopted);
  const checked = await checkNars(context, complete);
  const ready = await withoutBlocked(context, checked);
  const replaced = context.options.isDryRun ? new Set(ready) : await signAndReplace(context, ready);
  for (const each of ready) {
    const { path } = each.info;
    if (!replaced.has(each)) {
      context.options.onResult({ path, status: 'changed' });
      continue;
    }
    adopted.add(path);
    context.options.onResult({ path, status: 'adopted', by: describe(each.provenance) });
  }
}

async function readGroup(
  context: AdoptContext,
  hashes: readonly string[],
): Promise<UnsignedNarInfo[]> {
  const found = await mapConcurrent(hashes, readsAtOnce, (hash) =>
    catchRefusal(() => readUnsigned(context, hash)),
  );
  return found.flatMap((each, index) => {
    const key = narInfoKey(hashes[index] ?? '');
    if (each instanceof NicheError) refuse(context, key, each);
    if (each === null) context.options.onResult({ path: key, status: 'changed' });
    return each === null || each instanceof NicheError ? [] : [each];
  });
}

/** Returns the paths whose references readers can get, or can get once the group is adopted. */
async function withReferences(
  context: AdoptContext,
  unsigned: readonly UnsignedNarInfo[],
  adopted: ReadonlySet<string>,
): Promise<UnsignedNarInfo[]> {
  const inGroup = new Set(unsigned.map(({ info }) => info.path));
  const outside = new Set(unsigned.flatMap(({ info }) => info.references));
  const unknown = [...outside].filter((path) => !inGroup.has(path) && !adopted.has(path));
  const { present } = await context.presence.findReferences(unknown, Infinity);
  return selectComplete(context, unsigned, (path) => adopted.has(path) || present.has(path));
}

/** Checks and stores the NARs, and returns the paths that passed. */
async function checkNars(
  context: AdoptContext,
  paths: readonly UnsignedNarInfo[],
): Promise<ReadyNarInfo[]> {
  const candidates = await mapConcurrent(paths, narsAtOnce, (each) => {
    context.assertRunning();
    return catchRefusal(() => createCandidate(context, each));
  });
  const checked = paths.flatMap((each, index) => {
    const candidate = candidates[index];
    if (candidate instanceof NicheError) refuse(context, each.info.path, candidate);
    return candidate === undefined || candidate instanceof NicheError
      ? []
      : [{ ...each, candidate }];
  });
  const inGroup = new Set(paths.map(({ info }) => info.path));
  return selectComplete(context, checked, (path) => !inGroup.has(path));
}

/** Reading the NARs may have taken long: paths may have been blocked in the meantime. */
async function withoutBlocked(
  context: AdoptContext,
  paths: readonly ReadyNarInfo[],
): Promise<ReadyNarInfo[]> {
  const { blocklist } = context;
  await blocklist.refresh();
  const allowed = paths.filter(({ info }) => {
    const isBlocked = blocklist.refuses(info);
    if (isBlocked) refuse(context, info.path, blockedError(info, blocklist));
    return !isBlocked;
  });
  const inGroup = new Set(paths.map(({ info }) => info.path));
  return selectComplete(
    context,
    allowed,
    (path) => !inGroup.has(path) && !blocklist.has(storeHash(path)),
  );
}

/**
 * Returns the paths whose references are all available, or are selected paths themselves. Refuses the
 * others.
 *
 * @param paths each after its references among them
 */
function selectComplete<T extends { readonly info: PathInfo }>(
  context: AdoptContext,
  paths: readonly T[],
  isAvailable: (path: string) => boolean,
): T[] {
  const selected = new Set<string>();
  return paths.filter(({ info: { path, references } }) => {
    const missing = references.filter(
      (reference) => reference !== path && !selected.has(reference) && !isAvailable(reference),
    );
    if (missing.length === 0) selected.add(path);
    else refuse(context, path, missingError(path, missing));
    return missing.length === 0;
  });
}

function missingError(path: string, missing: readonly string[]): NicheError {
  const named = missing.slice(0, maxNamed).join(', ');
  const more = missing.length > maxNamed ? ', …' : '';
  return new NicheError(
    'missing-references',
    `readers cannot get ${missing.length} references of ${path}: ${named}${more}`,
  );
}

function refuse({ options }: AdoptContext, path: string, { code, message }: NicheError): void {
  options.onResult({ path, status: 'refused', code, message });
}

function describe(provenance: Provenance): string {
  return provenance.by === 'signature' ? provenance.publicKey : provenance.by;
}
