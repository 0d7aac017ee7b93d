import { isNicheError, messageOf, quote } from '../../errors.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import type { Finding } from './finding.ts';
import type { Blocked } from '../blocklist.ts';
import { narInfoKey } from '../layout.ts';
import { readNarInfo, isUnreadableNarInfo } from '../read-narinfo.ts';
import { checkSignatures } from './signatures.ts';
import type { Upstreams } from '../upstreams.ts';
import { verifyNar } from './nar.ts';
import type { Report } from './nar.ts';
import type { ReferenceLocator } from './references.ts';

/** A narinfo to verify. */
export interface VerifySubject {
  readonly hash: string;
  /** The expected full store path; null when only the hash is known. */
  readonly path: string | null;
  /** Whether it comes from a listing. If so, it may have been withdrawn in the meantime. */
  readonly listed: boolean;
}

/** The result for one path. */
interface VerifiedPath {
  readonly path: string;
  /** In bytes. */
  readonly narSize: number;
  /** Signatures that verify under the cache's keys. */
  readonly signatures: readonly string[];
  /** References that are in this cache too: full paths without the path itself. */
  readonly referencesHere: readonly string[];
}

interface PathVerifierOptions {
  readonly reader: ObjectReader;
  readonly storeDir: string;
  readonly publicKeys: readonly string[];
  readonly keepSignatures?: readonly string[] | undefined;
  readonly upstreams: Upstreams;
  readonly references: ReferenceLocator;
  readonly blocked: Pick<Blocked, 'has' | 'hasNar'>;
  readonly onFinding: (finding: Finding) => void;
}

/** Verifies one path. Returns null when its narinfo is missing or damaged. Throws only on a bug. */
type PathVerifier = (subject: VerifySubject) => Promise<VerifiedPath | null>;

export function createPathVerifier(options: PathVerifierOptions): PathVerifier {
  const { reader, storeDir, references, blocked } = options;

  function verifySignatures(info: NarInfo, report: Report): string[] {
    const judged = checkSignatures(info, options);
    const good = judged.filter(({ verdict }) => verdict === 'cache');
    if (good.length === 0) {
      const names = judged.map(({ keyName }) => keyName || 'malformed').join(', ');
      const got = names === '' ? 'none' : quote(names);
      report(
        'wrong',
        'unsigned',
        `expected a signature that verifies under ${options.publicKeys.join(' or ')}, got ${got}`,
      );
    }
    for (const { keyName, signature, verdict } of judged) {
      if (verdict === 'bad') {
        report('wrong', 'bad-signature', `the signature ${quote(signature)} does not verify`);
      } else if (verdict === 'unknown') {
        const message = `it has a signature by ${quote(keyName)}, which is not a key of the cache, of an upstream or of keepSignatures`;
        report('warning', 'unknown-signature', message);
      }
    }
    return good.map(({ signature }) => signature);
  }

  async function verifyReferences(info: NarInfo, report: Report): Promise<string[]> {
    const here: string[] = [];
    for (const reference of info.references) {
      if (reference === info.path) continue;
      await attempt(report, async () => {
        const found = await references.locateReference(reference);
        if (found.at === 'here') here.push(reference);
        if (found.at !== null) return;
        const message = `readers cannot find its reference ${reference}: ${found.why}`;
        report('wrong', 'missing-reference', message);
      });
    }
    return here;
  }

  async function read(subject: VerifySubject, report: Report): Promise<NarInfo | null> {
    const { hash, path, listed } = subject;
    try {
      const info = await readNarInfo(reader, hash, storeDir);
      if (!info && !listed) report('wrong', 'missing-narinfo', `${narInfoKey(hash)} is missing`);
      return info;
    } catch (error) {
      if (!isUnreadableNarInfo(error)) throw error;
      const where = path === null ? '' : `${narInfoKey(hash)}: `;
      report('wrong', 'malformed-narinfo', `${where}${messageOf(error)}`);
      return null;
    }
  }

  return async (subject) => {
    const { hash } = subject;
    let name = subject.path ?? narInfoKey(hash);
    const report: Report = (kind, code, message) => {
      options.onFinding({ kind, subject: name, code, message });
    };
    const info = await attempt(report, () => read(subject, report));
    if (!info) return null;
    name = subject.path ?? info.path;

    if (storeHash(info.path) !== hash) {
      name = narInfoKey(hash);
      const message = `it is the narinfo of ${info.path}, expected a store path with the hash ${hash}`;
      report('wrong', 'misplaced-narinfo', message);
    } else if (subject.path !== null && subject.path !== info.path) {
      report('wrong', 'wrong-store-path', `the cache has ${info.path} instead`);
    }
    if (blocked.has(hash) || blocked.hasNar(info.narHash)) {
      report('wrong', 'blocked-but-visible', 'it is blocked, but still visible');
    }
    const signatures = verifySignatures(info, report);
    await attempt(report, () => verifyNar(reader, info, storeDir, report));
    const referencesHere = await verifyReferences(info, report);
    return { path: info.path, narSize: info.narSize, signatures, referencesHere };
  };
}

/** Runs `work`. Reports a failure of a storage or upstream as `unchecked` and returns null. */
async function attempt<T>(report: Report, work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (!isNicheError(error, 'storage-denied', 'storage-unavailable', 'upstream-unavailable')) {
      throw error;
    }
    report('unchecked', error.code, error.message);
    return null;
  }
}
