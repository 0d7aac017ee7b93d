import {
  createCipheriv,
  createDecipheriv,
  generateKeyPairSync,
  randomBytes,
  sign,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { crc32c } from '../../../core/util/crc32c.ts';

/**
 * A Google Cloud KMS in this process, as its REST reference describes it: GetPublicKey and
 * AsymmetricSign of a key version, Encrypt and Decrypt of a key. There is no emulator of the service.
 * The bodies have the fields of the reference.
 */
export interface GoogleKms {
  readonly endpoint: string;
  /** The only valid access token. */
  readonly token: string;
  /** Creates a key version for signing, and returns its resource name. */
  addSigningKey(name: string, kind?: 'EC_SIGN_ED25519' | 'EC_SIGN_P256_SHA256'): KeyObject;
  setState(version: string, state: 'ENABLED' | 'DISABLED' | 'DESTROYED'): void;
  /** Called before each response; returns a replacement, or fields that override the response's. */
  fault: ((path: string, answer: object) => Fault | null) | null;
  /** Every request, as method and path. */
  readonly requests: string[];
  close(): Promise<void>;
}

export type Fault =
  | { readonly status: number; readonly body: unknown; readonly headers?: Record<string, string> }
  | { readonly replace: object }
  | 'hang-up';

interface SigningKey {
  readonly kind: string;
  readonly privateKey: KeyObject;
  readonly pem: string;
  state: string;
}

export async function startGoogleKms(): Promise<GoogleKms> {
  const token = randomBytes(12).toString('hex');
  const signing = new Map<string, SigningKey>();
  const wrapping = randomBytes(32);
  const requests: string[] = [];

  function answer(method: string, path: string, body: Record<string, string>): object {
    const [, name = '', verb = ''] =
      /^\/v1\/(.+?)(:asymmetricSign|:encrypt|:decrypt|\/publicKey)$/.exec(path) ?? [];
    if (verb === ':encrypt' && method === 'POST') return encrypt(name, body, wrapping);
    if (verb === ':decrypt' && method === 'POST') return decrypt(body, wrapping);
    const key = signing.get(name);
    if (!key) throw new Refusal(404, 'NOT_FOUND', `CryptoKeyVersion ${name} not found.`);
    if (key.state !== 'ENABLED') {
      throw new Refusal(
        400,
        'FAILED_PRECONDITION',
        `${name} is not enabled, current state is: ${key.state}.`,
      );
    }
    if (verb === '/publicKey' && method === 'GET') {
      const pemCrc32c = String(crc32c(Buffer.from(key.pem)));
      return { pem: key.pem, algorithm: key.kind, pemCrc32c, name, protectionLevel: 'HSM' };
    }
    if (verb !== ':asymmetricSign' || method !== 'POST')
      throw new Refusal(404, 'NOT_FOUND', 'Not found');
    return asymmetricSign(name, key, body);
  }

  const server = createServer((request, response) => {
    void (async () => {
      const { method = '', url = '' } = request;
      requests.push(`${method} ${url}`);
      const sent = await text(request);
      let status = 200;
      let body: object;
      try {
        if (request.headers.authorization !== `Bearer ${token}`) {
          throw new Refusal(
            401,
            'UNAUTHENTICATED',
            'Request had invalid authentication credentials.',
          );
        }
        body = answer(method, url, (sent === '' ? {} : JSON.parse(sent)) as Record<string, string>);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        ({ status, body } = error);
      }
      const fault = kms.fault?.(url, body) ?? null;
      if (fault === 'hang-up') {
        request.socket.destroy();
        return;
      }
      if (fault && 'replace' in fault) body = { ...body, ...fault.replace };
      if (fault && 'status' in fault)
        ({ status, body } = fault as { status: number; body: object });
      const headers = fault && 'headers' in fault ? fault.headers : {};
      response.writeHead(status, { 'content-type': 'application/json; charset=UTF-8', ...headers });
      response.end(JSON.stringify(body));
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  const kms: GoogleKms = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token,
    requests,
    fault: null,
    addSigningKey(name, kind = 'EC_SIGN_ED25519') {
      const { privateKey, publicKey } =
        kind === 'EC_SIGN_ED25519'
          ? generateKeyPairSync('ed25519')
          : generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;
      signing.set(name, { kind, privateKey, pem, state: 'ENABLED' });
      return publicKey;
    },
    setState(version, state) {
      signing.get(version)!.state = state;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
  return kms;
}

/** Returns an error body, as google.rpc.Status maps to HTTP. */
class Refusal extends Error {
  readonly status: number;
  readonly body: object;

  constructor(code: number, status: string, message: string) {
    super(message);
    this.status = code;
    this.body = { error: { code, message, status } };
  }
}

function asymmetricSign(name: string, key: SigningKey, body: Record<string, string>): object {
  const { data, dataCrc32c, digest } = body;
  if (digest !== undefined || data === undefined) {
    throw new Refusal(400, 'INVALID_ARGUMENT', `${key.kind} takes data and no digest.`);
  }
  const bytes = Buffer.from(data, 'base64');
  if (bytes.length > 64 * 1024) throw new Refusal(400, 'INVALID_ARGUMENT', 'data is too long.');
  assertChecksum('data', data, dataCrc32c);
  const signature = sign(null, bytes, key.privateKey);
  return {
    signature: signature.toString('base64'),
    signatureCrc32c: String(crc32c(signature)),
    verifiedDataCrc32c: dataCrc32c !== undefined,
    name,
    protectionLevel: 'HSM',
  };
}

function assertChecksum(field: string, base64: string, checksum: string | undefined): void {
  if (checksum === undefined || checksum === String(crc32c(Buffer.from(base64, 'base64')))) return;
  throw new Refusal(
    400,
    'INVALID_ARGUMENT',
    `The checksum in field ${field}_crc32c did not match the data in field ${field}.`,
  );
}

function encrypt(name: string, body: Record<string, string>, key: Buffer): object {
  const { plaintext = '', plaintextCrc32c } = body;
  assertChecksum('plaintext', plaintext, plaintextCrc32c);
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  const sealed = Buffer.concat([cipher.update(plaintext, 'base64'), cipher.final()]);
  const ciphertext = Buffer.concat([iv, cipher.getAuthTag(), sealed]);
  return {
    name: `${name}/cryptoKeyVersions/1`,
    ciphertext: ciphertext.toString('base64'),
    ciphertextCrc32c: String(crc32c(ciphertext)),
    verifiedPlaintextCrc32c: plaintextCrc32c !== undefined,
    protectionLevel: 'SOFTWARE',
  };
}

function decrypt(body: Record<string, string>, key: Buffer): object {
  const { ciphertext = '', ciphertextCrc32c } = body;
  assertChecksum('ciphertext', ciphertext, ciphertextCrc32c);
  const bytes = Buffer.from(ciphertext, 'base64');
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12));
    decipher.setAuthTag(bytes.subarray(12, 28));
    const plaintext = Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]);
    return {
      plaintext: plaintext.toString('base64'),
      plaintextCrc32c: String(crc32c(plaintext)),
      usedPrimary: true,
      protectionLevel: 'SOFTWARE',
    };
  } catch {
    throw new Refusal(400, 'INVALID_ARGUMENT', 'Decryption failed: the ciphertext is invalid.');
  }
}
