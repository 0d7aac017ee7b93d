import type { Blocked } from '../../core/cache/blocklist.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import { parsePublicKey, verifyFingerprint } from '../../core/nix/keys.ts';
import {
  parseRealisationValue,
  realisationLayouts,
  realisationName,
  storedFingerprint,
} from '../../core/nix/realisation.ts';
import type { Realisation, RealisationValue } from '../../core/nix/realisation.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import { fail } from '../support/cache/invariants.ts';
import type { Actor } from './checks.ts';

/** Checks the invariants of realisations. */
export interface RealisationChecks {
  /** Checks a change of the object `key`. @param text null when it was deleted */
  onChange(actor: Actor, key: string, text: string | null): void;
  /** Checks that no output of a visible realisation is blocked. */
  checkBlocked(blocked: Pick<Blocked, 'has'>): void;
  /** Checks the results that the client of a realisation got in the end. */
  checkResult(
    realisation: Realisation,
    said: readonly Outcome[],
    options: { readonly mayGiveUp: boolean },
  ): void;
}

export function createRealisationChecks(options: {
  readonly publicKeys: () => readonly string[];
  /** `<path> <signature>` of every audit record. */
  readonly audited: ReadonlySet<string>;
  readonly isAvailable: (path: string) => boolean;
  /** The step at which a path was last withdrawn; -1 when it never was. */
  readonly hiddenAt: (path: string) => number;
  readonly wasBlocked: (path: string) => boolean;
}): RealisationChecks {
  const { isAvailable, hiddenAt, wasBlocked } = options;
  const visible = new Map<string, RealisationValue>();

  function checkSignature(key: string, value: RealisationValue): void {
    const keys = options.publicKeys().map(parsePublicKey);
    const text = storedFingerprint(key, value, '/nix/store') ?? '';
    const valid = value.signatures.filter((each) => verifyFingerprint(text, each, keys));
    if (valid.length === 0) fail('I8', `${key} carries no signature of the cache`);
    for (const signature of valid) {
      const record = `${value.outPath} ${signature}`;
      if (!options.audited.has(record)) fail('I6', `${signature} of ${key} has no audit record`);
    }
  }

  return {
    onChange({ busySince }, key, text) {
      const before = visible.get(key);
      if (text === null) {
        if (before && !wasBlocked(before.outPath)) fail('I8', `${key} is gone`);
        visible.delete(key);
        return;
      }
      const value = parseRealisationValue(text, '/nix/store');
      visible.set(key, value);
      checkSignature(key, value);
      // What was withdrawn while the publisher worked cannot be seen to be missing.
      const wasAvailable = (path: string): boolean =>
        isAvailable(path) || hiddenAt(path) >= busySince;
      if (!wasAvailable(value.outPath)) {
        fail('I8', `${key} became visible without its output ${value.outPath}`);
      }
      const isReplaced = before !== undefined && before.outPath !== value.outPath;
      // A blocked output counts as absent before it is gone.
      if (isReplaced && isAvailable(before.outPath) && !wasBlocked(before.outPath)) {
        fail('I8', `${key} was replaced although its output ${before.outPath} is available`);
      }
    },

    checkBlocked(blocked) {
      for (const [key, { outPath }] of visible) {
        if (blocked.has(storeHash(outPath))) fail('blocked', `${key} of a blocked path is visible`);
      }
    },

    checkResult(realisation, said, { mayGiveUp }) {
      const name = realisationName(realisation);
      const about = `${name}: ${said.map(({ status, code }) => code ?? status).join(', ')}`;
      const isIn = said.some(({ status }) => status === 'published' || status === 'exists');
      const rejection = said.find(({ status }) => status === 'rejected');
      if (!isIn && !rejection) fail('I4', `no final receipt of ${about}`);
      const { outPath } = realisation;
      const isLost = mayGiveUp && /^(?:failed|missing-references)$/.test(rejection?.code ?? '');
      if (wasBlocked(outPath) || isLost) return;
      const shown = realisationLayouts.map(({ keyOf }) => visible.get(keyOf(realisation))?.outPath);
      const isShown = shown.every((each) => each === outPath);
      if (isIn && !isShown) fail('I4', `a false receipt of ${about}`);
      if (isIn || rejection?.code === 'conflict') return;
      fail('I4', `never published, although its output is: ${about}`);
    },
  };
}
