import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { parsePublicKey, verifyFingerprint } from '../../../core/nix/keys.ts';
import { crc32c } from '../../../core/util/crc32c.ts';
import { openGoogleKms } from '../../../core/kms/google.ts';
import type { GoogleKms } from '../../../core/kms/google.ts';
import { kmsSigner, readPublicKey } from '../../../core/signing/kms.ts';
import { createRetrier } from '../../../core/util/retry.ts';
import { testPath } from '../../support/cache/paths.ts';
import { startGoogleKms } from '../../support/servers/google-kms.ts';
import type { GoogleKms as GoogleKmsServer } from '../../support/servers/google-kms.ts';

const version =
  'projects/acme/locations/europe-west1/keyRings/niche/cryptoKeys/signing/cryptoKeyVersions/1';

describe('crc32c', () => {
  it('matches the examples of RFC 3720, appendix B.4', () => {
    const cases: [Uint8Array, number][] = [
      [Buffer.alloc(32, 0), 0x8a9136aa],
      [Buffer.alloc(32, 0xff), 0x62a8ab43],
      [Buffer.from(Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e],
      [Buffer.from(Array.from({ length: 32 }, (_, index) => 31 - index)), 0x113fdb5c],
      [Buffer.from('123456789'), 0xe3069283],
      [Buffer.alloc(0), 0],
    ];
    for (const [bytes, expected] of cases) assert.equal(crc32c(bytes), expected);
  });
});

describe('Google Cloud KMS', () => {
  let service: GoogleKmsServer;

  before(async () => {
    service = await startGoogleKms();
    service.addSigningKey(version);
  });
  beforeEach(() => {
    service.fault = null;
    service.requests.length = 0;
    service.setState(version, 'ENABLED');
  });
  after(() => service.close());

  function open(token = service.token): GoogleKms {
    const auth = {
      headers: () => Promise.resolve({ authorization: `Bearer ${token}` }),
      projectId: () => Promise.resolve(undefined),
    };
    const retrier = createRetrier({ firstBackoffMs: 1, maxAttempts: 3, maxElapsedMs: 2_000 });
    return openGoogleKms({ auth, endpoint: service.endpoint, retrier });
  }

  it('signs fingerprints of any length as Nix verifies them', async () => {
    const kms = open();
    const publicKey = await readPublicKey(kms, version, 'acme-1');
    assert.match(publicKey, /^acme-1:[A-Za-z0-9+/]{43}=$/);
    const signer = kmsSigner(kms, version, publicKey);
    const { info } = await testPath('hello', { selfReference: true });
    const texts = [fingerprint(info, '/nix/store'), '1'.repeat(kms.maxMessageBytes)];
    for (const text of texts) {
      const { signature } = await signer.sign(text);
      assert.ok(verifyFingerprint(text, signature, [parsePublicKey(publicKey)]));
    }
    assert.deepEqual(
      [signer.keyName, signer.keyId, signer.maxBytes],
      ['acme-1', version, kms.maxMessageBytes],
    );
    assert.deepEqual(service.requests, [
      `GET /v1/${version}/publicKey`,
      `POST /v1/${version}:asymmetricSign`,
      `POST /v1/${version}:asymmetricSign`,
    ]);
  });

  it('retries after damage in either direction, up to a limit', async () => {
    const signer = kmsSigner(open(), version, await readPublicKey(open(), version, 'acme-1'));
    const damaged = [
      { verifiedDataCrc32c: false },
      { signatureCrc32c: '1' },
      { signature: Buffer.alloc(64).toString('base64') },
      { name: version.replace('acme', 'other') },
      { signature: undefined, signatureCrc32c: '0' },
    ];
    for (const replace of damaged) {
      let answers = 0;
      service.fault = () => ((answers += 1) === 1 ? { replace } : null);
      await signer.sign('text');
      assert.equal(answers, 2, JSON.stringify(replace));
      service.fault = () => ({ replace });
      await assert.rejects(signer.sign('text'), { code: 'signer-unavailable' });
    }
    service.fault = () => ({
      status: 400,
      body: {
        error: {
          code: 400,
          status: 'INVALID_ARGUMENT',
          message: 'The checksum in field data_crc32c did not match the data in field data.',
        },
      },
    });
    await assert.rejects(signer.sign('text'), { code: 'signer-unavailable' });
    service.fault = () => ({ replace: { pemCrc32c: '7' } });
    await assert.rejects(readPublicKey(open(), version, 'x'), { code: 'signer-unavailable' });
  });

  it('retries through throttling and outages', async () => {
    const signer = kmsSigner(open(), version, await readPublicKey(open(), version, 'acme-1'));
    const faults = [
      {
        status: 429,
        body: { error: { code: 429, status: 'RESOURCE_EXHAUSTED', message: 'Quota' } },
      },
      { status: 503, body: { error: { code: 503, status: 'UNAVAILABLE', message: 'down' } } },
      'hang-up',
    ] as const;
    for (const fault of faults) {
      let answers = 0;
      service.fault = () => ((answers += 1) <= 2 ? fault : null);
      await signer.sign('text');
      assert.equal(answers, 3);
    }
    service.fault = () => faults[1];
    await assert.rejects(signer.sign('text'), { code: 'signer-unavailable' });
  });

  it('reports an unusable key without a retry', async () => {
    const kms = open();
    const signer = kmsSigner(kms, version, await readPublicKey(kms, version, 'acme-1'));
    const p256 = version.replace('signing', 'p256');
    service.addSigningKey(p256, 'EC_SIGN_P256_SHA256');
    await assert.rejects(readPublicKey(kms, p256, 'x'), {
      code: 'wrong-key',
      message: /expected a key of EC_SIGN_ED25519, got EC_SIGN_P256_SHA256/,
    });
    await assert.rejects(readPublicKey(kms, version.replace(/1$/, '2'), 'x'), {
      code: 'wrong-key',
    });
    for (const state of ['DISABLED', 'DESTROYED'] as const) {
      service.setState(version, state);
      service.requests.length = 0;
      await assert.rejects(signer.sign('text'), { code: 'wrong-key', message: new RegExp(state) });
      assert.equal(service.requests.length, 1);
    }
  });

  it('reports denied requests', async () => {
    await assert.rejects(readPublicKey(open('stolen'), version, 'x'), { code: 'signer-denied' });
    service.fault = () => ({
      status: 403,
      body: {
        error: {
          code: 403,
          status: 'PERMISSION_DENIED',
          message: "Permission 'cloudkms.cryptoKeyVersions.useToSign' denied",
        },
      },
    });
    const signer = kmsSigner(open(), version, `acme-1:${Buffer.alloc(32).toString('base64')}`);
    await assert.rejects(signer.sign('text'), {
      code: 'signer-denied',
      message: /PERMISSION_DENIED: Permission 'cloudkms/,
    });
    assert.equal(service.requests.length, 2);
  });
});
