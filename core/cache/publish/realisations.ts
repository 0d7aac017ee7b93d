import { NicheError, isNicheError } from '../../errors.ts';
import { parsePublicKey } from '../../nix/keys.ts';
import { realisationHash, realisationLayouts, realisationName } from '../../nix/realisation.ts';
import type { Realisation, RealisationLayout } from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Signer } from '../../signing/signer.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { writeAuditRecords } from '../audit.ts';
import type { AuditRecord } from '../audit.ts';
import type { CacheConfig } from '../config.ts';
import { realisedKey } from '../layout.ts';
import { createObject, replaceObject, writeObject } from '../objects.ts';
import { readRealisation } from '../read-realisation.ts';
import { catchRejection, isFinal, isPublished } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import type { Upstreams } from '../upstreams.ts';
import type { PublishContext } from './context.ts';
import { nothingToUnpark } from './paths.ts';
import type { PendingRealisations, StagedRealisation } from './pending-realisations.ts';
import type { PathReport } from './report.ts';
import { createTextSigner } from '../sign-text.ts';
import { copyBuildLog } from './realisation-logs.ts';

/** A realisation with its outcome, and how to delete its pending record once that is reported. */
export interface FinishedRealisation extends PathReport {
  readonly unpark: () => Promise<void>;
}

/** A realisation, and how its waiting is stored. */
interface OpenRealisation {
  readonly staged: StagedRealisation;
  isParked: boolean;
  /** Whether its marker is stored. A wake-up deletes it. */
  isMarked: boolean;
}

/** Publishes realisations whose outputs readers can get. Each call can be repeated. */
export interface RealisationPublisher {
  /** Publishes or parks staged realisations together, with one audit object. */
  publishRealisations(
    context: PublishContext,
    staged: readonly StagedRealisation[],
  ): Promise<FinishedRealisation[]>;
  /** Continues with a parked realisation. */
  resumeRealisation(
    context: PublishContext,
    staged: StagedRealisation,
    isMarked: boolean,
  ): Promise<FinishedRealisation>;
}

export interface RealisationPublisherOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: Pick<CacheConfig, 'storeDir' | 'publicKeys'>;
  readonly signers: readonly Signer[];
  readonly upstreams: Upstreams;
  readonly pendingRealisations: PendingRealisations;
  readonly withdraw: (storeHash: string) => Promise<void>;
  readonly version: string;
  readonly now: () => Date;
}

/** An object that the cache lacks. */
interface DueObject {
  readonly layout: RealisationLayout;
  readonly key: string;
  /** That of an object that readers cannot use, and that is replaced; null when there is none. */
  readonly etag: string | null;
}

/** A staged realisation that is to be published now. */
interface DueRealisation {
  readonly at: number;
  readonly staged: StagedRealisation;
  readonly due: readonly DueObject[];
}

const atOnce = 32;
/** Rounds in which other publishers were faster. Each one has then found the same object. */
const maxRounds = 5;

export function createRealisationPublisher(
  options: RealisationPublisherOptions,
): RealisationPublisher {
  const { public: cache, private: privateRoot, config, upstreams, pendingRealisations } = options;
  const { storeDir } = config;
  const publicKeys = config.publicKeys.map(parsePublicKey);
  const signText = createTextSigner(options.signers, config.publicKeys);

  /**
   * Looks at the object of one layout in the cache and upstream.
   *
   * @returns null when readers can get the realisation already
   * @throws NicheError `conflict`, `upstream-conflict`, `upstream-unavailable`
   */
  async function findDue(
    { presence }: PublishContext,
    realisation: Realisation,
    layout: RealisationLayout,
  ): Promise<DueObject | null> {
    const key = layout.keyOf(realisation);
    const here = await readRealisation(cache, key, { storeDir, publicKeys });
    if (here.kind === 'found') {
      const { outPath } = here.value;
      if (outPath === realisation.outPath) return null;
      // Without its output it is of no use to readers, for example after a withdrawal.
      const { missing } = await presence.findReferences([outPath], 1);
      if (missing.length === 0) throw conflict('conflict', realisation, outPath, 'this cache');
    } else {
      const there = await upstreams.findRealisation(key);
      if (there === realisation.outPath) return null;
      if (there !== null) throw conflict('upstream-conflict', realisation, there, 'an upstream');
    }
    return { layout, key, etag: here.kind === 'absent' ? null : here.etag };
  }

  /** Decides about one realisation. Parks it until its output is present. */
  async function decide(
    context: PublishContext,
    open: OpenRealisation,
  ): Promise<Outcome | readonly DueObject[]> {
    const { staged } = open;
    const { realisation } = staged;
    const { outPath } = realisation;
    for (;;) {
      if (context.blocked.has(storeHash(outPath))) throw blockedOutput(realisation);
      const looked = await Promise.all(
        realisationLayouts.map((layout) => findDue(context, realisation, layout)),
      );
      const due = looked.filter((each) => each !== null);
      if (due.length === 0) return { status: 'exists' };
      const { missing } = await context.presence.findReferences([outPath], 1);
      if (missing.length === 0) return due;
      if (open.isMarked) return { status: 'waiting', missing };
      // The output may be published meanwhile, by a publisher that does not see the marker yet.
      await pendingRealisations.park(staged, options.now().toISOString());
      open.isParked = true;
      open.isMarked = true;
    }
  }

  /** Signs the objects, and writes their audit records and the index of their outputs. */
  async function sign(
    all: readonly DueRealisation[],
  ): Promise<ReadonlyMap<DueRealisation, readonly string[]>> {
    const records: AuditRecord[] = [];
    const texts = new Map<DueRealisation, string[]>();
    await mapConcurrent(all, atOnce, async (one) => {
      const { realisation, upload, origin } = one.staged;
      const { outPath, ...identity } = realisation;
      const signed = await mapConcurrent(one.due, 1, ({ layout }) =>
        signText(layout.fingerprint(realisation, storeDir)),
      );
      texts.set(
        one,
        one.due.map(({ layout }, index) =>
          layout.format(realisation, signed[index]?.signatures ?? [], storeDir),
        ),
      );
      records.push({
        version: 1,
        at: options.now().toISOString(),
        path: outPath,
        realisation: identity,
        signatures: signed.flatMap(({ signatures }) => signatures),
        signers: signed.flatMap(({ signers }) => signers),
        upload,
        origin,
        publisher: options.version,
      });
    });
    await writeAuditRecords(privateRoot, records);
    await mapConcurrent(all, atOnce, async ({ staged: { realisation } }) => {
      const hash = realisationHash(realisationName(realisation));
      const key = realisedKey(storeHash(realisation.outPath), hash);
      await writeObject(privateRoot, key, JSON.stringify(realisation));
    });
    return texts;
  }

  /** @returns whether all objects were created; else another publisher was faster */
  async function create({ due }: DueRealisation, texts: readonly string[]): Promise<boolean> {
    // In this order: clients take the second object as proof of both.
    for (const [index, { key, etag }] of due.entries()) {
      const text = texts[index] ?? '';
      const isStored =
        etag === null
          ? (await createObject(cache, key, text)) === 'created'
          : await replaceUnused(key, text, etag);
      if (!isStored) return false;
    }
    return true;
  }

  /**
   * Replaces an object that readers cannot use.
   *
   * @throws NicheError `conflict` when this publisher may not, as a cloud function of Google: a retry
   *   would fail in the same way for ever
   */
  async function replaceUnused(key: string, text: string, etag: string): Promise<boolean> {
    try {
      return (await replaceObject(cache, key, text, etag)) === 'replaced';
    } catch (cause) {
      if (!isNicheError(cause, 'storage-denied')) throw cause;
      const message = `${key} in this cache is of no use to readers, and cannot be replaced: ${cause.message}`;
      throw new NicheError('conflict', message, { cause });
    }
  }

  /** Publishes or parks the realisations; returns their outcomes in the same order. */
  async function publishAll(
    context: PublishContext,
    all: readonly OpenRealisation[],
  ): Promise<Outcome[]> {
    const outcomes = new Map<number, Outcome>();
    for (let round = 0; outcomes.size < all.length; round += 1) {
      if (round === maxRounds) {
        throw new NicheError('storage-unavailable', 'publishing realisations: they keep changing');
      }
      const open = all.flatMap((one, at) => (outcomes.has(at) ? [] : [{ one, at }]));
      const decided = await mapConcurrent(open, atOnce, async ({ one, at }) => {
        const decision = await catchRejection(() => decide(context, one));
        if ('status' in decision) outcomes.set(at, decision);
        return 'status' in decision ? [] : [{ at, staged: one.staged, due: decision }];
      });
      const due = decided.flat();
      if (due.length === 0) continue;
      const texts = await sign(due);
      await mapConcurrent(due, atOnce, async (one) => {
        const outcome = await catchRejection(async (): Promise<Outcome | null> => {
          return (await create(one, texts.get(one) ?? [])) ? { status: 'published' } : null;
        });
        if (outcome) outcomes.set(one.at, outcome);
      });
    }
    return all.map((_, at) => outcomes.get(at) ?? { status: 'waiting' });
  }

  /**
   * Rejects realisations whose output was blocked while they were published, and has them withdrawn:
   * the administrator may have looked for them before they were created.
   */
  async function rejectBlocked(
    { blocked }: PublishContext,
    staged: readonly StagedRealisation[],
    outcomes: readonly Outcome[],
  ): Promise<readonly Outcome[]> {
    if (outcomes.some(({ status }) => isPublished(status))) await blocked.refresh();
    return mapConcurrent(outcomes, atOnce, async (outcome, index) => {
      const realisation = staged[index]?.realisation;
      if (!realisation || !isPublished(outcome.status)) return outcome;
      const hash = storeHash(realisation.outPath);
      if (!blocked.has(hash)) return outcome;
      await options.withdraw(hash);
      return catchRejection(() => Promise.reject(blockedOutput(realisation)));
    });
  }

  async function publish(
    context: PublishContext,
    all: readonly OpenRealisation[],
  ): Promise<FinishedRealisation[]> {
    const staged = all.map((one) => one.staged);
    const published = await publishAll(context, all);
    await mapConcurrent(staged, atOnce, async ({ realisation }, index) => {
      const isVisible = isPublished(published[index]?.status ?? 'waiting');
      if (isVisible) await copyBuildLog(cache, realisation, storeDir);
    });
    const outcomes = await rejectBlocked(context, staged, published);
    return all.map(({ staged: one, isParked }, index) => {
      const outcome = outcomes[index] ?? { status: 'waiting' };
      const isDone = isParked && isFinal(outcome.status);
      return {
        info: { path: realisationName(one.realisation), narSize: 0 },
        outcome,
        unpark: isDone ? () => pendingRealisations.forget(one) : nothingToUnpark,
      };
    });
  }

  return {
    publishRealisations: (context, staged) =>
      publish(
        context,
        staged.map((one) => ({ staged: one, isParked: false, isMarked: false })),
      ),
    async resumeRealisation(context, staged, isMarked) {
      const [finished] = await publish(context, [{ staged, isParked: true, isMarked }]);
      if (!finished) throw new NicheError('internal', 'resuming a realisation: no result');
      return finished;
    },
  };
}

function conflict(
  code: 'conflict' | 'upstream-conflict',
  realisation: Realisation,
  other: string,
  where: string,
): NicheError {
  const name = realisationName(realisation);
  const message = `${where} has another output of ${name}: expected ${other}, got ${realisation.outPath}`;
  return new NicheError(code, message);
}

function blockedOutput(realisation: Realisation): NicheError {
  const name = realisationName(realisation);
  const message = `the output ${realisation.outPath} of ${name} is blocked: an administrator withdrew it`;
  return new NicheError('blocked', message);
}
