import type { Blocked } from '../../core/cache/blocklist.ts';
import { parseConfig } from '../../core/cache/config.ts';
import {
  auditPrefix,
  blockedPrefix,
  configKey,
  narInfoKey,
  narHashPrefix,
  narPrefix,
  parseBlockedKey,
  parseManifestKey,
  parseNarInfoKey,
  parsePendingKey,
  receiptsPrefix,
  signingConfigKey,
  stagingPrefix,
} from '../../core/cache/layout.ts';
import type { RootName } from '../../core/cache/layout.ts';
import { parseManifest } from '../../core/cache/manifest.ts';
import type { Manifest } from '../../core/cache/manifest.ts';
import { receiptFormat, receiptSubject } from '../../core/cache/receipts/receipts.ts';
import type { Outcome, Receipt } from '../../core/cache/receipts/receipts.ts';
import { parseStoredJson } from '../../core/cache/stored-json.ts';
import type { NarInfo } from '../../core/nix/narinfo.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import {
  isRealisationKey,
  isRealisationName,
  realisationName,
} from '../../core/nix/realisation.ts';
import type { Realisation } from '../../core/nix/realisation.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import type { BucketOperation, MemoryStore } from '../support/buckets/memory-bucket.ts';
import {
  checkNar,
  checkSignatures,
  checkUnchanged,
  fail,
  parseVisible,
} from '../support/cache/invariants.ts';
import { createMemory } from './memory.ts';
import { createRealisationChecks } from './realisation-checks.ts';

export type Role = 'publisher' | 'sweep' | 'client' | 'admin';

/** Whose operation took effect, and when the work began that it belongs to. */
export interface Actor {
  readonly role: Role;
  readonly busySince: number;
}

/** Checks the invariants after every effect, as far as the effect can break them. */
export interface Checks {
  /** @throws InvariantError */
  onEffect(actor: Actor, root: RootName, operation: BucketOperation, key: string): void;
  /**
   * Checks that no blocked path is visible.
   *
   * @throws InvariantError
   */
  checkBlocked(blocked: Blocked): void;
  /**
   * Checks the end of a schedule, when all work is done and all time limits have passed.
   *
   * @param blocked the paths that are blocked now
   * @throws InvariantError
   */
  checkEnd(blocked: Blocked): void;
}

export interface ChecksOptions {
  readonly stores: Readonly<Record<RootName, MemoryStore>>;
  readonly upstreamPaths: readonly string[];
  /** The number of the current step. */
  readonly step: () => number;
  /** Whether the claim is true, and the path the only one with its name. */
  readonly isValid: (info: PathInfo) => boolean;
  /** Whether several claims for the path are true: one is published, the others conflict with it. */
  readonly isContested: (info: PathInfo) => boolean;
  /** Whether so many publishers crashed that one may have rejected a valid path. */
  readonly mayGiveUp: () => boolean;
  /** Whether the upload was staged after everything was unblocked. */
  readonly isLast: (upload: string) => boolean;
}

export function createChecks(options: ChecksOptions): Checks {
  const { stores, upstreamPaths, step } = options;
  const visible = new Map<string, NarInfo>();
  const texts = new Map<string, string>();
  /** The steps at which narinfos were deleted, by path. */
  const hiddenAt = new Map<string, number>();
  const narEtags = new Map<string, string>();
  const audited = new Set<string>();
  const everBlocked = new Set<string>();
  const everBlockedNars = new Set<string>();
  const outcomes = new Map<string, Outcome[]>();
  /** The paths of each batch whose manifest was created, by its key. */
  const staged = new Map<string, readonly PathInfo[]>();
  /** The realisations of each batch whose manifest was created, by its key. */
  const stagedRealisations = new Map<string, readonly Realisation[]>();
  const realisations = createRealisationChecks({
    publicKeys: () => publicKeys(),
    audited,
    isAvailable: (path) => isAvailable(path),
    hiddenAt: (path) => hiddenAt.get(path) ?? -1,
    wasBlocked: (path) => everBlocked.has(storeHash(path)),
  });
  /**
   * Those that were staged while a path was being withdrawn, or before: a dead administrator may have
   * sent the last block long ago, and a publisher may have asked for its withdrawal.
   */
  const early = new Set<string>();
  const pathsByHash = new Map<string, PathInfo>();

  const textOf = (root: RootName, key: string): string | undefined => {
    const object = stores[root].objects.get(key);
    return object && Buffer.from(object.bytes).toString();
  };
  const wasBlocked = ({ path, narHash, references }: PathInfo): boolean =>
    everBlocked.has(storeHash(path)) ||
    everBlockedNars.has(narHash) ||
    references.some((reference) => {
      const info = pathsByHash.get(storeHash(reference));
      return info !== undefined && info.path !== path && wasBlocked(info);
    });
  const publicKeys = (): readonly string[] => keysOf(textOf('public', configKey) ?? '');

  function checkNarInfo(actor: Actor, key: string): void {
    const before = texts.get(key);
    const now = textOf('public', key);
    if (now === before) return;
    if (now === undefined) {
      const path = visible.get(key)?.path ?? '';
      if (!everBlocked.has(storeHash(path))) fail('I3', `${key} is gone`);
      visible.delete(key);
      texts.delete(key);
      hiddenAt.set(path, step());
      return;
    }
    if (before !== undefined) checkUnchanged(new Map([[key, before]]), new Map([[key, now]]));
    const info = narInfoOf(key, now);
    checkStoredNar(info);
    checkSignatures(info, publicKeys(), audited);
    if (before === undefined) checkReferences(actor, info);
    visible.set(key, info);
    texts.set(key, now);
  }

  function checkReferences({ busySince }: Actor, info: NarInfo): void {
    for (const reference of info.references) {
      if (reference === info.path || isAvailable(reference)) continue;
      // A reference that was withdrawn while the publisher worked cannot be seen to be missing.
      if ((hiddenAt.get(reference) ?? -1) >= busySince) continue;
      fail('I2', `${info.path} became visible without ${reference}`);
    }
  }

  const isAvailable = (path: string): boolean =>
    upstreamPaths.includes(path) || visible.get(narInfoKey(storeHash(path)))?.path === path;

  function isVisible(info: PathInfo): boolean {
    const published = visible.get(narInfoKey(storeHash(info.path)));
    return published?.path === info.path && published.narHash === info.narHash;
  }

  function checkStoredNar(info: NarInfo): void {
    const bytes = stores.public.objects.get(info.url)?.bytes ?? null;
    if (bytes === null) return fail('I1', `${info.url} of ${info.path} is missing`);
    const facts = `${info.url} ${info.narHash} ${info.fileHash} ${Buffer.from(bytes).toString('latin1')}`;
    soundNars(facts, () => {
      checkNar(info, bytes);
      return true;
    });
  }

  function checkNarObject(key: string): void {
    const etag = stores.public.objects.get(key)?.etag;
    const before = narEtags.get(key);
    if (before !== undefined && before !== etag) {
      const user = [...visible.values()].find(({ url }) => url === key);
      if (user) fail('I1', `the NAR of ${user.path} was replaced or deleted`);
    }
    if (etag === undefined) narEtags.delete(key);
    else narEtags.set(key, etag);
  }

  /** Checks that readers who trust the current keys can use every visible path. */
  function checkKeys(): void {
    const keys = publicKeys();
    for (const info of visible.values()) checkSignatures(info, keys, audited);
  }

  function isWithdrawing(): boolean {
    const keys = [...stores.private.objects.keys()];
    return keys.some((key) => /^(?:path|deleting)$/.test(parseBlockedKey(key)?.kind ?? ''));
  }

  function noteBlocked(key: string): void {
    const marker = parseBlockedKey(key);
    if (marker?.kind === 'path') everBlocked.add(marker.hash);
    if (isWithdrawing()) for (const earlier of staged.keys()) early.add(earlier);
    if (marker?.kind === 'nar') everBlockedNars.add(marker.hash);
  }

  function readAudit(key: string): void {
    for (const line of (textOf('private', key) ?? '').trimEnd().split('\n')) {
      const record = JSON.parse(line) as { path: string; signatures: string[] };
      for (const signature of record.signatures) audited.add(`${record.path} ${signature}`);
    }
  }

  function readReceipts(key: string): void {
    const text = textOf('staging', key) ?? '';
    const [, upload = '', name = ''] = key.split('/');
    const receipts = receiptTexts(text, () => parseStoredJson(text, key, receiptFormat));
    for (const { path, ...outcome } of receipts) {
      const subject = `${upload} ${path === undefined ? name.split('.')[0] : receiptSubject(path)}`;
      const known = outcomes.get(subject) ?? [];
      outcomes.set(subject, [...known, outcome]);
      if (path === undefined || isRealisationName(path)) continue;
      const isIn = outcome.status === 'published' || outcome.status === 'exists';
      if (isIn && !everBlocked.has(storeHash(path)) && !isAvailable(path)) {
        fail('I4', `${path} is reported as ${outcome.status} and is not visible`);
      }
    }
  }

  const outcomesOf = (upload: string, path: string): readonly Outcome[] =>
    outcomes.get(`${upload} ${receiptSubject(path)}`) ?? [];

  /** Checks that an object that leads to a receipt remains until the receipt exists. */
  function checkForgotten(key: string): void {
    const pending = parsePendingKey(key);
    if (pending) {
      const said = outcomes.get(`${pending.upload} ${pending.storeHash}`) ?? [];
      if (!said.some(({ status }) => status !== 'waiting')) {
        fail('I4', `${key} was deleted before its receipt`);
      }
    }
    const id = parseManifestKey(key);
    const names = (stagedRealisations.get(key) ?? []).map(realisationName);
    const paths = (staged.get(key) ?? []).map(({ path }) => path);
    for (const path of id ? [...paths, ...names] : []) {
      if (outcomesOf(id!.upload, path).length > 0) continue;
      if (outcomes.has(`${id!.upload} ${id!.batch}`)) continue;
      fail('I4', `${key} was deleted before the receipt of ${path}`);
    }
  }

  function checkRole(
    { role }: Actor,
    root: RootName,
    operation: BucketOperation,
    key: string,
  ): void {
    const isDenied =
      (role === 'client' && (root !== 'staging' || !key.startsWith(stagingPrefix))) ||
      (role === 'publisher' && root === 'public' && !mayPublish(operation, key)) ||
      (role === 'publisher' && key.startsWith(blockedPrefix));
    if (isDenied) fail('roles', `a ${role} did ${operation} ${key}`);
  }

  function checkBlocked(blocked: Blocked): void {
    for (const info of visible.values()) {
      if (blocked.refuses(info)) fail('blocked', `${info.path} is blocked and visible`);
    }
    realisations.checkBlocked(blocked);
  }

  function checkPurged(): void {
    for (const key of stores.private.objects.keys()) {
      const marker = parseBlockedKey(key);
      if (marker?.kind !== 'purged') continue;
      const prefix = narHashPrefix(marker.hash);
      const left = [...stores.public.objects.keys()].find((each) => each.startsWith(prefix));
      if (left !== undefined) fail('purged', `${left} is still stored`);
    }
  }

  return {
    checkBlocked,
    onEffect(actor, root, operation, key) {
      if (!isWrite(operation)) return;
      checkRole(actor, root, operation, key);
      if (root === 'public') {
        if (parseNarInfoKey(key) !== null) checkNarInfo(actor, key);
        else if (isRealisationKey(key)) {
          realisations.onChange(actor, key, textOf('public', key) ?? null);
        } else if (key.startsWith(narPrefix)) checkNarObject(key);
        else if (key === configKey) checkKeys();
      } else if (operation === 'delete') checkForgotten(key);
      else if (key.startsWith(auditPrefix)) readAudit(key);
      else if (key.startsWith(receiptsPrefix)) readReceipts(key);
      else if (key.startsWith(blockedPrefix)) noteBlocked(key);
      else if (parseManifestKey(key)) {
        const text = textOf('staging', key) ?? '';
        const manifest = manifests(text, () => parseManifest(text, '/nix/store'));
        const { paths } = manifest;
        staged.set(key, paths);
        stagedRealisations.set(key, manifest.realisations);
        for (const info of paths) pathsByHash.set(storeHash(info.path), info);
        if (isWithdrawing()) early.add(key);
      }
    },

    checkEnd(blocked) {
      checkBlocked(blocked);
      checkPurged();
      checkKeys();
      for (const [key, paths] of staged) {
        const { upload, batch } = parseManifestKey(key)!;
        // A manifest at which publishers crashed is rejected as a whole, with all its paths.
        const isGivenUp = options.mayGiveUp() && outcomes.has(`${upload} ${batch}`);
        const isFree = options.isLast(upload) && !early.has(key);
        for (const info of paths) {
          if (!options.isValid(info) && isVisible(info)) fail('I5', `${info.path} is not valid`);
          if (!isGivenUp) checkResult(upload, info, isFree);
        }
      }
      for (const [key, some] of stagedRealisations) {
        const { upload, batch } = parseManifestKey(key)!;
        if (options.mayGiveUp() && outcomes.has(`${upload} ${batch}`)) continue;
        for (const each of some) {
          realisations.checkResult(each, outcomesOf(upload, realisationName(each)), {
            mayGiveUp: options.mayGiveUp(),
          });
        }
      }
      const keys = [...stores.staging.objects.keys(), ...stores.private.objects.keys()];
      const left = keys.filter((key) => !isInert(key) && !key.startsWith(blockedPrefix));
      if (left.length > 0) fail('leftovers', left.join(' '));
    },
  };

  /**
   * Checks the results that the client of a path gets.
   *
   * @param isFree whether no path was blocked any more when the upload was staged
   */
  function checkResult(upload: string, info: PathInfo, isFree: boolean): void {
    const said = outcomesOf(upload, info.path);
    const about = `${info.path} in ${upload}: ${said.map(({ status, code }) => code ?? status).join(', ')}`;
    const isIn = said.some(({ status }) => status === 'published' || status === 'exists');
    const rejection = said.find(({ status }) => status === 'rejected');
    if (!isIn && !rejection) fail('I4', `no final receipt of ${about}`);
    if (wasBlocked(info) && !isFree) return;
    // A path that was given up may be published nevertheless: for another upload, by a repeated event, or
    // by an attempt that goes on, and dies before its receipt.
    const isGivenUp = options.mayGiveUp() && rejection?.code === 'failed';
    if (isIn && rejection && !wasBlocked(info) && !isGivenUp)
      fail('I4', `both results of ${about}`);
    const isSame = isVisible(info);
    if (isIn && !isSame) fail('I4', `a false receipt of ${about}`);
    if (!isIn && isSame && !isGivenUp) fail('I5', `it is visible, in spite of ${about}`);
    if (!isIn && options.isValid(info)) {
      const isBeaten = options.isContested(info) && rejection?.code === 'conflict';
      // Its dependents miss a path that was given up.
      const isLost =
        options.mayGiveUp() && /^(?:failed|missing-references)$/.test(rejection!.code!);
      if (!isBeaten && !isLost) fail('I4', `never published, although valid: ${about}`);
    }
  }
}

const soundNars = createMemory<true>();
const receiptTexts = createMemory<Receipt[]>();
const manifests = createMemory<Manifest>();
const narInfos = createMemory<NarInfo>();
const configs = createMemory<readonly string[]>();

const writes: ReadonlySet<BucketOperation> = new Set([
  'put',
  'replace',
  'commit',
  'delete',
] as const);
/** A publisher replaces only realisations that are of no use to readers. */
const mayPublish = (operation: BucketOperation, key: string): boolean =>
  operation === 'put' || (operation === 'replace' && isRealisationKey(key));
const isWrite = (operation: BucketOperation): boolean => writes.has(operation);

/** Whether an object outside of the public root is a record, so that no sweep has to look at it. */
export const isInert = (key: string): boolean =>
  /^(?:audit|receipts|realised)\//.test(key) || key === signingConfigKey;

function narInfoOf(key: string, text: string): NarInfo {
  return narInfos(`${key}\n${text}`, () => parseVisible(key, text));
}

function keysOf(config: string): readonly string[] {
  return configs(config, () => parseConfig(config, configKey).publicKeys);
}
