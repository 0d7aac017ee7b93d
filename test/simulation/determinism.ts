import crypto from 'node:crypto';
import { KeyObject } from 'node:crypto';
import type { JsonWebKeyInput, PrivateKeyInput } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import type { Random } from './random.ts';

/**
 * Replaces parts of node:crypto in this process. Random bytes then come from the schedule's seed, and
 * Ed25519 costs nothing after its first use: the schedules sign and verify the same few fingerprints.
 * Verification no longer uses the thread pool, whose order would not repeat.
 */
export function makeCryptoDeterministic(): void {
  // Where production code begins anywhere, a schedule begins at the first: its seed must repeat it.
  Math.random = () => 0;
  Object.assign(crypto, {
    randomBytes: (size: number) => (size === keyBytes ? Buffer.alloc(size, 1) : drawBytes(size)),
    createPublicKey: rememberKeys(crypto.createPublicKey as ImportKey),
    createPrivateKey: rememberKeys(crypto.createPrivateKey as ImportKey),
    sign: rememberSignatures(),
    verify: rememberVerdicts(),
  });
  syncBuiltinESMExports();
}

/**
 * The size of the seed of a signing key. Every generated key is the same, since its signatures could not
 * be remembered otherwise.
 */
const keyBytes = 32;

function drawBytes(size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; at += 1) bytes[at] = source.below(256);
  return bytes;
}

let source: Random = {
  fraction: () => 0,
  below: () => 0,
  chance: () => false,
  pick: ([first]) => first!,
};

/** Sets where random bytes come from. */
export function setRandomSource(random: Random): void {
  source = random;
}

type ImportKey = (input: JsonWebKeyInput | PrivateKeyInput | KeyObject) => KeyObject;

/** Imports each key once. */
function rememberKeys(importKey: ImportKey): ImportKey {
  const known = new Map<string, KeyObject>();
  return (input) => {
    if (input instanceof KeyObject) return importKey(input);
    const id =
      input.format === 'jwk'
        ? `${input.key.d ?? ''} ${input.key.x ?? ''}`
        : Buffer.from(input.key as Buffer).toString('latin1');
    const key = known.get(id) ?? importKey(input);
    known.set(id, key);
    return key;
  };
}

function rememberSignatures(): (algorithm: null, data: Buffer, key: KeyObject) => Buffer {
  const { sign } = crypto;
  const remember = createMemory<Buffer>();
  return (algorithm, data, key) =>
    remember(key, data.toString('latin1'), () => sign(algorithm, data, key));
}

type Done = (error: null, isValid: boolean) => void;

function rememberVerdicts() {
  const { verify } = crypto;
  const remember = createMemory<boolean>();
  return (algorithm: null, data: Buffer, key: KeyObject, signature: Buffer, done?: Done) => {
    const question = data.toString('latin1') + Buffer.from(signature).toString('latin1');
    const isValid = remember(key, question, () => verify(algorithm, data, key, signature));
    done?.(null, isValid);
    return isValid;
  };
}

/** Returns a function that computes the answer to a question about a key once. */
function createMemory<T>(): (key: KeyObject, question: string, compute: () => T) => T {
  const answers = new WeakMap<KeyObject, Map<string, T>>();
  return (key, question, compute) => {
    let known = answers.get(key);
    if (known === undefined) answers.set(key, (known = new Map<string, T>()));
    let answer = known.get(question);
    if (answer === undefined) known.set(question, (answer = compute()));
    return answer;
  };
}
