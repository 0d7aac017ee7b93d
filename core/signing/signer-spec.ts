import { NicheError, quote } from '../errors.ts';

/** A key that signs, as settings and `niche init --signer` name it. */
export interface SignerSpec {
  /** `secret-key`: one of the cache's `niche.signing.json`, decrypted by the publisher. */
  readonly kind: 'aws-kms' | 'gcp-kms' | 'secret-key';
  /** The key as its KMS names it: an ARN, an id or `alias/…`; a resource name. Else its name. */
  readonly key: string;
  /** What the key is called in signatures; null where the one who asks chooses. */
  readonly name: string | null;
}

const grammars: Readonly<Record<SignerSpec['kind'], RegExp>> = {
  // An ARN of a key or an alias, a key's id (also of a multi-region key), or an alias.
  'aws-kms':
    /^(?:arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(?:key\/[A-Za-z0-9-]+|alias\/[A-Za-z0-9/_-]+)|alias\/[A-Za-z0-9/_-]+|[A-Za-z0-9-]{36})$/,
  'gcp-kms':
    /^projects\/[^/\s]+\/locations\/[^/\s]+\/keyRings\/[^/\s]+\/cryptoKeys\/[^/\s]+\/cryptoKeyVersions\/[0-9]+$/,
  'secret-key': /^[^:\s\p{Cc}]+$/u,
};

const expected =
  'expected aws-kms:<key ARN, id or alias/…> or gcp-kms:<resource name of a key version>, then perhaps ?name=<key name>; or secret-key:<key name>';

/**
 * Reads `aws-kms:alias/niche?name=acme-1`.
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

export function formatSignerSpec({ kind, key, name }: SignerSpec): string {
  if (kind === 'secret-key') return `${kind}:${key}`;
  return `${kind}:${key}${name === null ? '' : `?${new URLSearchParams({ name }).toString()}`}`;
}

function refusal(text: string): NicheError {
  // In place of a key's name may stand the key itself.
  const got = /^secret-key:./s.test(text) ? 'secret-key: with what is no name' : quote(text);
  return new NicheError('invalid-signer', `reading a signer: ${expected}; got ${got}`);
}
