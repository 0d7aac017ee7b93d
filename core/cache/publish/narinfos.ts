import { formatNarInfo } from '../../nix/narinfo.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { Blocked } from '../blocklist.ts';
import { contentTypeOf, narInfoKey } from '../layout.ts';
import { createObject } from '../objects.ts';
import { blockedError } from './conflicts.ts';
import type { ConflictChecker } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import type { Candidate } from './paths.ts';
import type { NarInfoSigner } from './sign-narinfo.ts';

/** The narinfos of a batch that were signed together. */
export interface PreparedNarInfos {
  /** The text of each narinfo that is signed and in the audit log, by path. */
  readonly signed: ReadonlyMap<string, string>;
  /** The paths whose narinfo is created already. */
  readonly created: ReadonlySet<string>;
}

export const nothingPrepared: PreparedNarInfos = { signed: new Map(), created: new Set() };

/** Creates narinfos, which makes their paths visible. Signs and audits each one first. */
export interface NarInfoPublisher {
  /**
   * Signs in one step all candidates whose references are published or among the candidates. Creates
   * their narinfos too, where the storage creates many objects in one request.
   *
   * @param candidates each after its references
   */
  prepareNarInfos(
    context: PublishContext,
    candidates: readonly Candidate[],
  ): Promise<PreparedNarInfos>;
  /**
   * Creates the narinfo of a candidate whose references are present.
   *
   * @param prepared narinfos of the candidate's batch
   * @returns `exists` when another publisher created it first; `missing`, with nothing created, when a
   *   reference was withdrawn meanwhile
   * @throws NicheError `blocked`, `conflict`, `unverified-narinfo`, `upstream-conflict`
   */
  publishNarInfo(
    context: PublishContext,
    candidate: Candidate,
    prepared: PreparedNarInfos,
  ): Promise<'published' | 'exists' | 'missing'>;
}

export function createNarInfoPublisher(
  options: {
    readonly public: Bucket;
    readonly config: { readonly storeDir: string };
    readonly narInfoSigner: NarInfoSigner;
  },
  conflicts: ConflictChecker,
): NarInfoPublisher {
  const { public: bucket, config, narInfoSigner } = options;

  /** Signs the candidates, writes the audit log and returns the narinfos' text by path. */
  async function sign(candidates: readonly Candidate[]): Promise<Map<string, string>> {
    if (candidates.length === 0) return new Map();
    const signed = await narInfoSigner.signNarInfos(candidates);
    return new Map(signed.map((info) => [info.path, formatNarInfo(info, config.storeDir)]));
  }

  /**
   * Signs a candidate that was not ready with its batch.
   *
   * @returns null when a reference was withdrawn in the meantime
   * @throws NicheError `blocked` when the candidate itself was
   */
  async function signAlone(context: PublishContext, candidate: Candidate): Promise<string | null> {
    const { path, references } = candidate.info;
    await context.blocked.refresh();
    if (context.blocked.refuses(candidate.info)) {
      throw blockedError(candidate.info, context.blocked);
    }
    const others = references.filter((reference) => reference !== path);
    const { missing } = await context.presence.findReferences(others, 1);
    if (missing.length > 0) return null;
    const [narInfo = null] = (await sign([candidate])).values();
    return narInfo;
  }

  /** Signs the candidates that are ready, see {@link selectReady}. */
  async function signReady(
    context: PublishContext,
    candidates: readonly Candidate[],
  ): Promise<Map<string, string>> {
    if (candidates.length === 0) return new Map();
    // Reading the NARs may have taken minutes: paths may have been blocked in the meantime.
    await context.blocked.refresh();
    const inBatch = new Set(candidates.map(({ info }) => info.path));
    const references = new Set(candidates.flatMap(({ info }) => info.references));
    const { present } = await context.presence.findReferences(
      [...references].filter((path) => !inBatch.has(path)),
      // One missing reference is enough for each path that is not ready.
      candidates.length,
    );
    return sign(selectReady(candidates, context.blocked, present));
  }

  /**
   * Creates the narinfos where the storage creates many objects in one request. Stops at the first
   * that another publisher has created: {@link NarInfoPublisher.publishNarInfo} creates the rest.
   *
   * @param signed each after its references
   * @returns the paths whose narinfo was created
   */
  async function createTogether(
    context: PublishContext,
    signed: ReadonlyMap<string, string>,
  ): Promise<ReadonlySet<string>> {
    if (!bucket.createInOrder || signed.size === 0) return new Set();
    const paths = [...signed.keys()];
    const objects = [...signed].map(([path, text]) => {
      const key = narInfoKey(storeHash(path));
      return { key, body: Buffer.from(text), contentType: contentTypeOf(key) };
    });
    const outcomes = await bucket.createInOrder(objects);
    const created = paths.filter((_, index) => outcomes[index] === 'created');
    for (const path of created) context.presence.markPresent(path);
    return new Set(created);
  }

  return {
    async prepareNarInfos(context, candidates) {
      const signed = await signReady(context, candidates);
      return { signed, created: await createTogether(context, signed) };
    },

    async publishNarInfo(context, candidate, { signed, created }) {
      const { path } = candidate.info;
      if (created.has(path)) return 'published';
      const narInfo = signed.get(path) ?? (await signAlone(context, candidate));
      if (narInfo === null) return 'missing';
      const key = narInfoKey(storeHash(path));
      if ((await createObject(bucket, key, narInfo)) === 'created') {
        context.presence.markPresent(path);
        return 'published';
      }
      // The publisher that won the race may have published other contents.
      await conflicts.checkConflicts(context, candidate.info);
      return 'exists';
    },
  };
}

/**
 * Returns the candidates that are not blocked and whose references are all published or ready
 * themselves.
 *
 * @param candidates each after its references
 * @param present references outside the batch that readers can get
 */
function selectReady(
  candidates: readonly Candidate[],
  blocked: Pick<Blocked, 'refuses'>,
  present: ReadonlySet<string>,
): Candidate[] {
  const inBatch = new Set(candidates.map(({ info }) => info.path));
  const ready = new Set<string>();
  return candidates.filter(({ info }) => {
    if (blocked.refuses(info)) return false;
    const { path, references } = info;
    const isReady = references.every((reference) =>
      inBatch.has(reference) ? reference === path || ready.has(reference) : present.has(reference),
    );
    if (isReady) ready.add(path);
    return isReady;
  });
}
