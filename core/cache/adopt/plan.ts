import { NicheError } from '../../errors.ts';
import type { PublicKey } from '../../nix/keys.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { eachConcurrent, mapConcurrent } from '../../util/concurrency.ts';
import { parseNarInfoKey } from '../layout.ts';
import { readSignedNarInfo } from '../signed-narinfo.ts';
import type { SignedNarInfo } from '../signed-narinfo.ts';

/** Narinfos read at once. */
const readsAtOnce = 32;

/** All narinfos of the cache; or those of store hashes, with the unsigned ones that they refer to. */
export type AdoptSelection = 'all' | readonly string[];

/** The narinfos to work on, as store hashes. */
export interface AdoptPlan {
  /** Without a valid signature of the cache, each after its references. */
  readonly unsigned: readonly string[];
  /** The selected ones with a valid signature. Empty when all narinfos are selected. */
  readonly signed: readonly string[];
  /** The number of narinfos with a valid signature. */
  readonly signedCount: number;
}

interface PlanOptions {
  readonly bucket: Bucket;
  readonly storeDir: string;
  readonly publicKeys: readonly PublicKey[];
  readonly selection: AdoptSelection;
  /** Receives each narinfo that cannot be read. */
  readonly onUnreadable: (hash: string, error: NicheError) => void;
  /** Called after each narinfo with their number so far. */
  readonly onRead: (read: number) => void;
  readonly assertRunning: () => void;
}

/**
 * Finds the narinfos that lack a valid signature, and their order. Holds some 100 bytes for each, and 8
 * for each reference among them.
 *
 * @throws NicheError `storage-…`
 */
export async function planAdoption(options: PlanOptions): Promise<AdoptPlan> {
  const { bucket, storeDir, publicKeys, selection, onUnreadable, onRead, assertRunning } = options;
  /** The references of each unsigned narinfo. */
  const graph = new Map<string, readonly string[]>();
  const signed: string[] = [];
  let signedCount = 0;
  let reads = 0;

  async function read(hash: string): Promise<SignedNarInfo> {
    assertRunning();
    const found = await readSignedNarInfo(bucket, hash, storeDir, publicKeys);
    reads += 1;
    onRead(reads);
    if (found.kind === 'signed') signedCount += 1;
    if (found.kind === 'damaged') {
      onUnreadable(hash, new NicheError('malformed-narinfo', found.problem));
    }
    return found;
  }

  async function planAll(): Promise<void> {
    // Each hash once in memory, however many narinfos refer to it.
    const interned = new Map<string, string>();
    for await (const { key } of bucket.list('')) {
      const hash = parseNarInfoKey(key);
      if (hash !== null) interned.set(hash, hash);
    }
    await eachConcurrent(eachOf(interned.keys()), readsAtOnce, async (hash) => {
      const found = await read(hash);
      if (found.kind !== 'unsigned') return;
      const references = found.info.references.flatMap(
        (reference) => interned.get(storeHash(reference)) ?? [],
      );
      graph.set(hash, references);
    });
  }

  async function planSelected(hashes: readonly string[]): Promise<void> {
    const seen = new Set(hashes);
    let wave = [...seen];
    for (let isFirst = true; wave.length > 0; isFirst = false) {
      const next = new Set<string>();
      await mapConcurrent(wave, readsAtOnce, async (hash) => {
        const found = await read(hash);
        if (isFirst && found.kind === 'signed') signed.push(hash);
        if (isFirst && found.kind === 'missing') {
          onUnreadable(hash, new NicheError('not-found', found.problem));
        }
        if (found.kind !== 'unsigned') return;
        const references = found.info.references.map(storeHash);
        graph.set(hash, references);
        for (const reference of references) if (!seen.has(reference)) next.add(reference);
      });
      for (const hash of next) seen.add(hash);
      wave = [...next];
    }
  }

  await (selection === 'all' ? planAll() : planSelected(selection));
  return { unsigned: referencesFirst(graph), signed, signedCount };
}

/** Returns the keys of `graph`, each after its references among them. */
function referencesFirst(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const ordered: string[] = [];
  const entered = new Set<string>();
  for (const root of graph.keys()) {
    // An explicit stack: a closure may be deeper than the call stack.
    const stack = [{ hash: root, isDone: false }];
    for (let top = stack.pop(); top; top = stack.pop()) {
      if (top.isDone) {
        ordered.push(top.hash);
        continue;
      }
      const references = graph.get(top.hash);
      // Forged references may form a circle: it has no order, and its paths are refused.
      if (!references || entered.has(top.hash)) continue;
      entered.add(top.hash);
      stack.push({ hash: top.hash, isDone: true });
      for (const hash of references) stack.push({ hash, isDone: false });
    }
  }
  return ordered;
}

// eslint-disable-next-line @typescript-eslint/require-await -- an iterable where a stream is expected
async function* eachOf<T>(items: Iterable<T>): AsyncIterable<T> {
  yield* items;
}
