import { isNicheError } from '../../../core/errors.ts';
import { receiptFormat } from '../../../core/cache/receipts/receipts.ts';
import { parseStoredJson } from '../../../core/cache/stored-json.ts';
import {
  parseManifestKey,
  parseNarInfoKey,
  parsePendingKey,
  receiptPrefix,
} from '../../../core/cache/layout.ts';
import type { PathInfo } from '../../../core/nix/path-info.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import {
  checkNar,
  checkSignatures,
  checkUnchanged,
  fail,
  InvariantError,
  parseVisible,
} from './invariants.ts';
import type { TestCache } from './kit.ts';
import type { BucketHooks } from '../buckets/memory-bucket.ts';

/** Checks a cache in memory after every operation. */
export interface Watch {
  /** A hook for {@link BucketHooks}. */
  readonly after: NonNullable<BucketHooks['after']>;
  /** @throws InvariantError for the first broken promise, if any */
  assertKept(): void;
}

/**
 * @param upstreamPaths paths of upstreams that the cache's paths refer to
 * @param valid claims that must never be rejected, by upload
 */
export function watchInvariants(
  cache: TestCache,
  upstreamPaths: readonly string[] = [],
  valid: ReadonlyMap<string, readonly PathInfo[]> = new Map(),
): Watch {
  const seen = new Map<string, string>();
  const paths = new Set<string>(upstreamPaths);
  const narEtags = new Map<string, string>();
  const audited = new Set<string>();
  const auditKeys = new Set<string>();
  const mustNotBeRejected = new Set(
    [...valid].flatMap(([upload, infos]) =>
      infos.map(({ path }) => `${upload} ${storeHash(path)} rejected`),
    ),
  );
  /** Indexed by the keys of manifests that publishers have read. */
  const staged = new Map<string, readonly string[]>();
  let fault: InvariantError | undefined;

  function readAudits(): void {
    for (const [key, { bytes }] of cache.privateStore.objects) {
      if (!key.startsWith('audit/') || auditKeys.has(key)) continue;
      auditKeys.add(key);
      for (const line of Buffer.from(bytes).toString().trimEnd().split('\n')) {
        const record = JSON.parse(line) as { path: string; signatures: string[] };
        for (const signature of record.signatures) audited.add(`${record.path} ${signature}`);
      }
    }
  }

  function checkNarInfo(key: string): void {
    const object = cache.publicStore.objects.get(key);
    const before = seen.get(key);
    const now = object && Buffer.from(object.bytes).toString();
    checkUnchanged(
      before === undefined ? new Map() : new Map([[key, before]]),
      now === undefined ? new Map() : new Map([[key, now]]),
    );
    if (now === undefined || now === before) return;
    const info = parseVisible(key, now);
    checkNar(info, cache.publicStore.objects.get(info.url)?.bytes ?? null);
    readAudits();
    checkSignatures(info, cache.config.publicKeys, audited);
    for (const reference of info.references) {
      const isPresent = reference === info.path || paths.has(reference);
      if (!isPresent) fail('I2', `${info.path} became visible before ${reference}`);
    }
    seen.set(key, now);
    paths.add(info.path);
  }

  function check(key: string): void {
    if (parseNarInfoKey(key) !== null) checkNarInfo(key);
    if (key.startsWith('nar/')) {
      const etag = cache.publicStore.objects.get(key)?.etag;
      const before = narEtags.get(key);
      if (before !== undefined && before !== etag) fail('I1', `${key} was replaced or deleted`);
      if (etag !== undefined) narEtags.set(key, etag);
    }
    if (key.startsWith('receipts/')) {
      for (const said of receiptsIn(key)) {
        if (mustNotBeRejected.has(said)) fail('I4', `a valid path was rejected: ${said}`);
      }
    }
  }

  function textOf(key: string): string {
    return Buffer.from(cache.stagingStore.objects.get(key)?.bytes ?? []).toString();
  }

  /** Returns `<upload> <subject> <status>` of each receipt in the object. */
  function receiptsIn(key: string): string[] {
    const [, upload = '', name = ''] = key.split('/');
    const [subject = '', status = ''] = name.split('.');
    if (/^[a-z]+$/.test(status)) return [`${upload} ${subject} ${status}`];
    const text = textOf(key);
    if (text === '') return [];
    const receipts = parseStoredJson(text, key, receiptFormat);
    return receipts.map(({ path = '', status: each }) => `${upload} ${storeHash(path)} ${each}`);
  }

  function saidOf(upload: string): Set<string> {
    const keys = [...cache.stagingStore.objects.keys()];
    return new Set(keys.filter((key) => key.startsWith(receiptPrefix(upload))).flatMap(receiptsIn));
  }

  /** Checks that an object that leads to a receipt remains until the receipt exists. */
  function checkForgotten(key: string): void {
    const pending = parsePendingKey(key);
    const paths = staged.get(key) ?? [];
    const upload = pending?.upload ?? parseManifestKey(key)?.upload ?? '';
    const said = saidOf(upload);
    const isSaid = (hash: string, statuses: readonly string[]): boolean =>
      statuses.some((status) => said.has(`${upload} ${hash} ${status}`));
    const final = ['published', 'exists', 'rejected'];
    for (const path of paths) {
      if (!isSaid(storeHash(path), [...final, 'waiting'])) {
        fail('I4', `${key} went before the receipt of ${path}`);
      }
    }
    if (pending && !isSaid(pending.storeHash, final)) fail('I4', `${key} went before its receipt`);
  }

  function noteManifest(key: string): void {
    const text = textOf(key);
    if (text === '') return;
    const { paths } = JSON.parse(text) as { paths: { path: string }[] };
    staged.set(
      key,
      paths.map(({ path }) => path),
    );
  }

  return {
    after(operation, key) {
      if (operation === 'get' && parseManifestKey(key)) noteManifest(key);
      if (fault || !['put', 'commit', 'delete'].includes(operation)) return;
      try {
        check(key);
        if (operation === 'delete') checkForgotten(key);
      } catch (error) {
        if (!(error instanceof InvariantError) && !isNicheError(error)) throw error;
        fault = error instanceof InvariantError ? error : new InvariantError(error.message);
      }
    },
    assertKept() {
      if (fault) throw fault;
    },
  };
}
