import { createHash, createHmac, createSecretKey } from 'node:crypto';
import type { Hash, KeyObject } from 'node:crypto';

type Hmac = ReturnType<typeof createHmac>;

type Source = string | ArrayBuffer | ArrayBufferView;

/** Importing a key takes five times as long as using it, and one key signs a day's requests. */
const keys = new WeakMap<ArrayBufferView, KeyObject>();

/** SHA-256, or HMAC-SHA-256 with a secret, in the SDK's interface. */
export class Sha256 {
  readonly #secret: Source | undefined;
  #state: Hash | Hmac;

  constructor(secret?: Source) {
    this.#secret = secret;
    this.#state = begin(secret);
  }

  update(data: Source): void {
    this.#state.update(bytesOf(data));
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the SDK's contract
  async digest(): Promise<Uint8Array> {
    // The SDK may read a plain hash before its end.
    const state = 'copy' in this.#state ? this.#state.copy() : this.#state;
    return state.digest();
  }

  reset(): void {
    this.#state = begin(this.#secret);
  }
}

function begin(secret: Source | undefined): Hash | Hmac {
  if (secret === undefined) return createHash('sha256');
  return createHmac('sha256', ArrayBuffer.isView(secret) ? keyOf(secret) : bytesOf(secret));
}

function keyOf(secret: ArrayBufferView): KeyObject {
  const known = keys.get(secret);
  if (known) return known;
  const key = createSecretKey(bytesOf(secret) as Uint8Array);
  keys.set(secret, key);
  return key;
}

function bytesOf(source: Source): string | Uint8Array {
  if (typeof source === 'string') return source;
  if (!ArrayBuffer.isView(source)) return new Uint8Array(source);
  return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
}
