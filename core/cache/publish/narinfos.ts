import { formatNarInfo } from '../../nix/narinfo.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { contentTypeOf, narInfoKey } from '../layout.ts';
import type { NarInfoSigner } from './sign-narinfo.ts';
import { createObject } from '../objects.ts';
import type { Candidate } from './pending.ts';
import { blocked } from './refusals.ts';
import type { PublishContext, Settlement } from './conflicts.ts';

/** What a batch has got so far. */
export interface Authorized {
  /** The text of each narinfo that is signed and audited, by path. */
  readonly authorized: ReadonlyMap<string, string>;
  /** The paths of those that are created already. */
  readonly created: ReadonlySet<string>;
}

export const nothingAuthorized: Authorized = { authorized: new Map(), created: new Set() };

/** Makes candidates visible, each signed and on record before it is. */
export interface NarInfoPublisher {
  /**
   * Signs at once all those of a batch that nothing but the others of it may keep waiting, and creates
   * their narinfos as far as the storage can in one go.
   *
   * @param candidates references before what refers to them
   */
  together(run: PublishContext, candidates: readonly Candidate[]): Promise<Authorized>;
  /**
   * Creates the candidate's narinfo, whose references are present, unless another publisher did so first.
   *
   * @param authorized what its batch has got
   * @throws NicheError `blocked`, `conflict`, `upstream-conflict`
   */
  one(
    run: PublishContext,
    candidate: Candidate,
    authorized: Authorized,
  ): Promise<'published' | 'exists'>;
}

export function createNarInfoPublisher(
  options: {
    readonly public: Bucket;
    readonly config: { readonly storeDir: string };
    readonly notary: NarInfoSigner;
  },
  settlement: Settlement,
): NarInfoPublisher {
  const { public: bucket, config, notary } = options;

  /**
   * Signs the candidates and writes the audit.
   *
   * @returns their narinfos' text, by path
   */
  async function authorize(candidates: readonly Candidate[]): Promise<Map<string, string>> {
    if (candidates.length === 0) return new Map();
    const signed = await notary.sign(candidates);
    return new Map(signed.map((info) => [info.path, formatNarInfo(info, config.storeDir)]));
  }

  /** {@link authorize} of one that was not ready with its batch, unless it has been withdrawn meanwhile. */
  async function authorizeAlone(
    run: PublishContext,
    candidate: Candidate,
  ): Promise<Map<string, string>> {
    await run.blocked.refresh();
    return authorize(run.blocked.has(storeHash(candidate.info.path)) ? [] : [candidate]);
  }

  /** Of a batch. What was withdrawn while NARs were read is not among them, nor what refers to it. */
  async function authorizeReady(
    run: PublishContext,
    candidates: readonly Candidate[],
  ): Promise<Map<string, string>> {
    if (candidates.length === 0) return new Map();
    await run.blocked.refresh();
    const inBatch = new Set(candidates.map(({ info }) => info.path));
    const elsewhere = new Set(candidates.flatMap(({ info }) => info.references));
    const missing = new Set(
      await run.presence.findMissing([...elsewhere].filter((path) => !inBatch.has(path))),
    );
    const ready = new Set<string>();
    const isReady = ({ info: { path, references } }: Candidate): boolean =>
      !run.blocked.has(storeHash(path)) &&
      references.every((reference) =>
        inBatch.has(reference)
          ? reference === path || ready.has(reference)
          : !missing.has(reference),
      );
    for (const candidate of candidates) if (isReady(candidate)) ready.add(candidate.info.path);
    return authorize(candidates.filter(({ info }) => ready.has(info.path)));
  }

  /**
   * Creates narinfos where the storage can in one go, up to the first that another publisher has
   * created; the others are created one by one.
   *
   * @param authorized references before what refers to them
   * @returns the paths whose narinfo was created
   */
  async function createTogether(
    run: PublishContext,
    authorized: ReadonlyMap<string, string>,
  ): Promise<ReadonlySet<string>> {
    if (!bucket.createInOrder || authorized.size === 0) return new Set();
    const paths = [...authorized.keys()];
    const objects = [...authorized].map(([path, text]) => {
      const key = narInfoKey(storeHash(path));
      return { key, body: Buffer.from(text), contentType: contentTypeOf(key) };
    });
    const outcomes = await bucket.createInOrder(objects);
    const created = paths.filter((_, index) => outcomes[index] === 'created');
    for (const path of created) run.presence.markPresent(path);
    return new Set(created);
  }

  return {
    async together(run, candidates) {
      const authorized = await authorizeReady(run, candidates);
      return { authorized, created: await createTogether(run, authorized) };
    },

    async one(run, candidate, { created, authorized }) {
      const { path } = candidate.info;
      if (created.has(path)) return 'published';
      const narInfo = authorized.get(path) ?? (await authorizeAlone(run, candidate)).get(path);
      if (narInfo === undefined) throw blocked(candidate.info);
      const key = narInfoKey(storeHash(path));
      if ((await createObject(bucket, key, narInfo)) === 'created') {
        run.presence.markPresent(path);
        return 'published';
      }
      // Whoever won the race may have published something else.
      await settlement.settle(run, candidate.info);
      return 'exists';
    },
  };
}
