import { NicheError, quote } from '../errors.ts';

/** A signing key, as `NICHE_SIGNERS` and `niche init --signer` specify it. */
export interface SignerSpec {
  /** `secret-key`: a key of the cache's `niche.signing.json`, which the publisher decrypts. */
  readonly kind: 'aws-kms' | 'gcp-kms' | 'secret-key';
  /** AWS: an ARN, an id or `alias/…`. Google: a key version's resource name. Else the key name. */
  readonly key: string;
  /** The key's name in signatures; null if the spec leaves it open. */
  readonly name: string | null;
}

const grammars: Readonly<Record<SignerSpec['kind'], RegExp>> = {
  // The ARN of a key or alias, the id of a key or multi-region key, or an alias.
  'aws-kms':
    /^(?:arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(?:key\/[A-Za-z0-9-]+|alias\/[A-Za-z0-9/_-]+)|alias\/[A-Za-z0-9/_-]+|[A-Za-z0-9-]{36})$/,
  'gcp-kms':
    /^projects\/[^/\s]+\/locations\/[^/\s]+\/keyRings\/[^/\s]+\/cryptoKeys\/[^/\s]+\/cryptoKeyVersions\/[0-9]+$/,
  'secret-key': /^[^:\s\p{Cc}]+$/u,
};

const expected =
  'expected aws-kms:<key ARN, id or alias/…> or gcp-kms:<resource name of a key version>, optionally with ?name=<key name>; or secret-key:<key name>';

/**
 * Parses a spec such as `aws-kms:alias/niche?name=acme-1`.
 *
 * @throws NicheError `invalid-signer`
 */
export function parseSignerSpec(text: string): SignerSpec {
  const [, kind = '', key = '', query] = /^([a-z-]+):([^?]*)(?:\?(.*))?$/s.exec(text) ?? [];
  const grammar = Object.hasOwn(grammars, kind) ? grammars[kind as SignerSpec['kind']] : undefined;
  if (!grammar?.test(key)) throw refusal(text);
  const parameters = new URLSearchParams(query ?? '');
  const name = parameters.get('name');
  const isKnown = [...parameters.keys()].join() === (name === null ? '' : 'name');
  if (!isKnown || (name !== null && !/^[^:\s\p{Cc}]+$/u.test(name))) throw refusal(text);
  if (kind === 'secret-key') {
    if (name !== null) throw refusal(text);
    return { kind, key, name: key };
  }
  return { kind: kind as SignerSpec['kind'], key, name };
}

/** Formats a spec that {@link parseSignerSpec} parses. */
export function formatSignerSpec({ kind, key, name }: SignerSpec): string {
  if (kind === 'secret-key') return `${kind}:${key}`;
  return `${kind}:${key}${name === null ? '' : `?${new URLSearchParams({ name }).toString()}`}`;
}

function refusal(text: string): NicheError {
  // The text may hold a secret key where its name is expected.
  const got = /^secret-key:./s.test(text) ? 'secret-key: with an invalid name' : quote(text);
  return new NicheError('invalid-signer', `parsing a signer: ${expected}; got ${got}`);
}

/**
 * Returns the public key of the signer, from those of the cache.
 *
 * @param publicKeys those of `niche.json`, `<key name>:<base64>`
 * @throws NicheError `wrong-key` if no key has the spec's name, or if it has none and there are several
 */
export function findPublicKey(spec: SignerSpec, publicKeys: readonly string[]): string {
  const matching = publicKeys.filter(
    (key) => spec.name === null || key.startsWith(`${spec.name}:`),
  );
  const [publicKey] = matching;
  if (publicKey !== undefined && matching.length === 1) return publicKey;
  throw new NicheError(
    'wrong-key',
    `finding the public key of the signer ${formatSignerSpec(spec)}: expected the name of one of ${publicKeys.join(' ')}`,
    { hint: 'add the key name to the signer: …?name=<key name>' },
  );
}
