import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseConfig } from '../../../core/cache/config.ts';
import { initCache } from '../../../core/cache/init.ts';
import { manifestKey, narInfoKey } from '../../../core/cache/layout.ts';
import type { BatchId } from '../../../core/cache/layout.ts';
import { formatPublicKey } from '../../../core/nix/keys.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { auditRecords } from '../../support/cache/kit.ts';
import { startFakeGcs, whyNoFakeGcs } from '../../support/servers/fake-gcs.ts';
import type { FakeGcs } from '../../support/servers/fake-gcs.ts';
import { bundleFunctions } from '../../support/servers/function-bundle.ts';
import { startFramework } from '../../support/servers/google-framework.ts';
import type { FrameworkServer } from '../../support/servers/google-framework.ts';
import { startGoogleKms } from '../../support/servers/google-kms.ts';
import type { GoogleKms } from '../../support/servers/google-kms.ts';
import { startGoogleServices } from '../../support/servers/google-services.ts';
import type { GoogleServices } from '../../support/servers/google-services.ts';
import { assertSubstituted, buildClosure, stageBackwards } from '../../support/lab/nix-closure.ts';
import { availableNix, createNixLab, whyNoNix } from '../../support/lab/nix-lab.ts';
import type { NixLab } from '../../support/lab/nix-lab.ts';
import { finalizedEvent, pushBody } from '../../functions/google-events.ts';

const nix = availableNix().at(-1);
const whyNoServer = whyNoFakeGcs();
const why = whyNoServer === false ? whyNoNix() : whyNoServer;
const topic = 'projects/acme/topics/niche-wake';
const caller = 'niche-invoker@acme.iam.gserviceaccount.com';
const version =
  'projects/acme/locations/europe-west1/keyRings/niche/cryptoKeys/signing/cryptoKeyVersions/1';

describe('the bundled Google Cloud functions', { skip: why }, () => {
  let folder: string;
  let gcs: FakeGcs;
  let kms: GoogleKms;
  let services: GoogleServices;
  let lab: NixLab;
  let publicRoot: Bucket, privateRoot: Bucket;
  let publicKey: string;
  let env: Record<string, string>;
  let publish: FrameworkServer, sweep: FrameworkServer;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'niche-google-functions-'));
    await bundleFunctions('google', folder);
    gcs = await startFakeGcs();
    kms = await startGoogleKms();
    services = await startGoogleServices(topic, kms.token);
    lab = await createNixLab({ nix: nix! });
    const jwk = kms.addSigningKey(version).export({ format: 'jwk' });
    publicKey = formatPublicKey({ name: 'acme-1', key: Buffer.from(jwk.x!, 'base64url') });
    for (const name of ['acme-cache', 'acme-cache-private']) await gcs.createBucket(name);
    const urls = ['acme-cache', 'acme-cache-private'].map((name) =>
      gcs.url(name).replace('?', '/team?'),
    );
    [publicRoot, privateRoot] = urls.map((url) => openBucket(url)) as [Bucket, Bucket];
    await initCache(
      publicRoot,
      parseConfig(
        JSON.stringify({
          version: 1,
          name: 'acme',
          storeDir: lab.storeDir,
          publicKeys: [publicKey],
          substituter: `${gcs.origin}/acme-cache/team`,
          storage: urls[0],
          private: urls[1],
        }),
        'the configuration',
      ),
    );
    env = {
      NICHE_PUBLIC: urls[0]!,
      NICHE_PRIVATE: urls[1]!,
      NICHE_SIGNERS: `gcp-kms:${version}?name=acme-1`,
      NICHE_WAKE_TOPIC: topic,
      NICHE_SWEEP_CALLER: caller,
      NICHE_TIME_LIMIT_SECONDS: '540',
      NICHE_KMS_ENDPOINT: kms.endpoint,
      ...services.env,
    };
    publish = await startFramework(folder, 'publish', env);
    sweep = await startFramework(folder, 'sweep', env);
  });
  after(async () => {
    await Promise.all([publish.kill(), sweep.kill()]);
    await Promise.all([gcs.stop(), kms.close(), services.stop(), lab.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  /** Posts an event as Eventarc does: by default the attributes are headers and the body is data. */
  async function tell(name: string, mode: 'binary' | 'structured' = 'binary'): Promise<number> {
    const { data, datacontenttype, ...attributes } = finalizedEvent(
      'acme-cache-private',
      name,
    ) as Record<string, unknown>;
    if (mode === 'structured') {
      return publish.post(
        '/',
        { ...attributes, datacontenttype, data },
        {
          'content-type': 'application/cloudevents+json',
        },
      );
    }
    const headers = Object.entries(attributes).map(([key, value]) => [`ce-${key}`, String(value)]);
    return publish.post('/', data, Object.fromEntries(headers) as Record<string, string>);
  }

  const tellOf = (id: BatchId, mode?: 'binary' | 'structured'): Promise<number> =>
    tell(`team/${manifestKey(id)}`, mode);

  /** Pushes the published messages, as the subscription does, until none is left. */
  async function push(): Promise<number[]> {
    const statuses: number[] = [];
    for (let message = services.messages.shift(); message; message = services.messages.shift()) {
      const status = await publish.post(`/${topic}`, pushBody(message));
      if (status >= 300) services.messages.push(message);
      statuses.push(status);
      assert.ok(statuses.length < 50, 'the topic does not become empty');
    }
    return statuses;
  }

  it('publish paths that real Nix built and substitutes', async (t) => {
    const parts = [
      { name: 'lower' },
      { name: 'middle', deps: ['lower'] },
      { name: 'upper', deps: ['middle', 'lower'] },
    ];
    const closure = await buildClosure(lab, parts, 'upper');
    assert.equal(closure.length, 3);
    const ids = await stageBackwards(privateRoot, lab.storeDir, closure);

    // While KMS is down nothing is signed, and the response makes Eventarc retry.
    kms.setState(version, 'DISABLED');
    assert.equal(await tellOf(ids[2]!), 500);
    assert.ok(publish.lines.some((line) => line.includes('"code":"wrong-key"')));
    kms.setState(version, 'ENABLED');

    // Kills the function at work. Then sends unordered, repeated and unrelated events in both modes.
    const killed = tellOf(ids[0]!).catch(() => 0);
    while ((await listKeys(privateRoot, 'attempts/')).length === 0) {
      if ((await Promise.race([killed, sleep(5)])) !== undefined) break;
    }
    await publish.kill();
    await killed;
    publish = await startFramework(folder, 'publish', env);
    assert.equal(await tellOf(ids[0]!, 'structured'), 204);
    assert.equal(await tellOf(ids[0]!), 204);
    assert.equal(await tell('team/receipts/whatever.json'), 204);
    assert.equal(await tell(`team/staging/../${manifestKey(ids[1]!)}`), 204);
    assert.deepEqual(await Promise.all([tellOf(ids[1]!), tellOf(ids[2]!)]), [204, 204]);
    assert.ok((await push()).every((status) => status === 204));

    for (const { info } of closure) {
      assert.ok(await publicRoot.head(narInfoKey(storeHash(info.path))), info.path);
    }
    assert.deepEqual(await listKeys(privateRoot, 'staging/'), []);
    assert.deepEqual(await listKeys(privateRoot, 'waiting/'), []);
    const records = await auditRecords({ private: privateRoot });
    assert.ok(records.every(({ signers }) => signers[0]?.keyId === version));
    assert.ok(records.every(({ origin }) => origin?.via === 'event'));

    const upper = closure.find(({ info }) => info.path.endsWith('-upper'))!.info.path;
    const substituter = `${gcs.origin}/acme-cache/team`;
    await assertSubstituted(t, lab, upper, { substituter, publicKey });
  });

  it('leave malformed messages to the dead-letter topic', async () => {
    assert.equal(await publish.post(`/${topic}`, pushBody({ niche: 1 })), 500);
    const attributes = {
      'ce-id': '1',
      'ce-specversion': '1.0',
      'ce-type': 'google.cloud.storage.object.v1.finalized',
      'ce-source': '//storage.googleapis.com/projects/_/buckets/acme-cache-private',
    };
    assert.equal(await publish.post('/', { bucket: 7 }, attributes), 204);
    const said = publish.lines.filter((line) => line.includes('"code":"malformed-event"'));
    assert.equal(said.length, 2);
  });

  it('sweep only for the scheduler', async () => {
    const aud = `https://${sweep.host}`;
    const call = (token?: string): Promise<number> =>
      sweep.post('/', {}, token === undefined ? {} : { authorization: `Bearer ${token}` });
    const good = services.identityToken({ aud, email: caller });
    assert.equal(await call(), 401);
    assert.equal(await call('nonsense'), 403);
    assert.equal(await call(`${good.slice(0, -8)}AAAAAAAA`), 403);
    const others: Parameters<GoogleServices['identityToken']>[0][] = [
      { aud: 'https://elsewhere.example', email: caller },
      { aud, email: 'somebody@acme.iam.gserviceaccount.com' },
      { aud, email: caller, email_verified: false },
      { aud, email: caller, iss: 'https://example.org' },
      { aud, email: caller, iat: 1, exp: 3600 },
    ];
    for (const claims of others) {
      assert.equal(await call(services.identityToken(claims)), 403, JSON.stringify(claims));
    }
    assert.ok(!sweep.lines.some((line) => line.includes('"message":"swept"')));
    assert.equal(await call(good), 200);
    assert.ok(sweep.lines.some((line) => line.includes('"message":"swept"')));
  });

  it('log records as Cloud Logging reads them, without a token', () => {
    const lines = [...publish.lines, ...sweep.lines];
    const records = lines.filter((line) => line.startsWith('{'));
    assert.ok(records.length > 10);
    for (const line of records) {
      const { severity, time, message } = JSON.parse(line) as Record<string, string>;
      assert.match(severity!, /^(?:INFO|WARNING|ERROR)$/);
      assert.match(time!, /^\d{4}-/);
      assert.ok(message);
    }
    assert.ok(!lines.some((line) => line.includes(kms.token) || line.includes('eyJ')));
  });
});
