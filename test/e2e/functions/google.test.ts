import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseConfig } from '../../../core/cache/config.ts';
import { initCache } from '../../../core/cache/init.ts';
import { blockedKey, manifestKey, narInfoKey } from '../../../core/cache/layout.ts';
import type { BatchId, CacheBuckets, RootName } from '../../../core/cache/layout.ts';
import { readObject } from '../../../core/cache/objects.ts';
import { forEachRoot } from '../../../core/cache/roots.ts';
import type { LocalPath } from '../../../core/cache/stage/local-path.ts';
import { tryUploaderRights } from '../../../core/cache/uploader-rights.ts';
import { formatPublicKey } from '../../../core/nix/keys.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { partBytes } from '../../../core/storage/google/resumable-upload.ts';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { auditRecords } from '../../support/cache/kit.ts';
import { startFakeGcs, whyNoFakeGcs } from '../../support/servers/fake-gcs.ts';
import type { FakeGcs } from '../../support/servers/fake-gcs.ts';
import { bundleFunctions } from '../../support/servers/function-bundle.ts';
import { startFramework } from '../../support/servers/google-framework.ts';
import type { FrameworkServer } from '../../support/servers/google-framework.ts';
import { startGoogleIam } from '../../support/servers/google-iam.ts';
import type { GoogleIamDoor } from '../../support/servers/google-iam.ts';
import { readBindings } from '../../support/servers/google-iam-policy.ts';
import { startGoogleKms } from '../../support/servers/google-kms.ts';
import type { GoogleKms } from '../../support/servers/google-kms.ts';
import { googleTopics, startGoogleServices } from '../../support/servers/google-services.ts';
import type { GoogleServices } from '../../support/servers/google-services.ts';
import { assertSubstituted, buildClosure, stageBackwards } from '../../support/lab/nix-closure.ts';
import { availableNix, createNixLab, whyNoNix } from '../../support/lab/nix-lab.ts';
import type { NixLab } from '../../support/lab/nix-lab.ts';
import { finalizedEvent, pushBody } from '../../functions/google-events.ts';

const nix = availableNix().at(-1);
const whyNoServer = whyNoFakeGcs();
const why = whyNoServer === false ? whyNoNix() : whyNoServer;
const caller = 'niche-invoker@acme.iam.gserviceaccount.com';
const topic = googleTopics.wake;
const buckets = {
  public: 'acme-cache',
  staging: 'acme-cache-staging',
  private: 'acme-cache-private',
};
const members = ['uploader', 'publisher', 'sweep', 'auditors', 'administrators'] as const;
type Member = (typeof members)[number];
const denied = { code: 'storage-denied' };
const version =
  'projects/acme/locations/europe-west1/keyRings/niche/cryptoKeys/signing/cryptoKeyVersions/1';

describe('the bundled Google Cloud functions', { skip: why }, () => {
  let folder: string;
  let gcs: FakeGcs;
  let kms: GoogleKms;
  let services: GoogleServices;
  let lab: NixLab;
  let administrator: CacheBuckets, uploader: CacheBuckets, auditor: CacheBuckets;
  let doors: Record<Member, GoogleIamDoor>;
  let publicKey: string;
  let published: readonly LocalPath[];
  let env: Record<string, string>;
  let publish: FrameworkServer, sweep: FrameworkServer;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'niche-google-functions-'));
    await bundleFunctions('google', folder);
    gcs = await startFakeGcs();
    kms = await startGoogleKms();
    services = await startGoogleServices(kms.token);
    lab = await createNixLab({ nix: nix! });
    const jwk = kms.addSigningKey(version).export({ format: 'jwk' });
    publicKey = formatPublicKey({ name: 'acme-1', key: Buffer.from(jwk.x!, 'base64url') });
    for (const name of Object.values(buckets)) await gcs.createBucket(name);
    const bindings = await readBindings({
      'local.public_bucket': buckets.public,
      'local.staging_bucket': buckets.staging,
      'local.private_bucket': buckets.private,
      'var.prefix': 'team/',
    });
    const started = members.map(async (member) => [
      member,
      await startGoogleIam(gcs.origin, member, bindings),
    ]);
    doors = Object.fromEntries(await Promise.all(started)) as typeof doors;
    administrator = openAs('administrators');
    uploader = openAs('uploader');
    auditor = openAs('auditors');
    await initCache(
      administrator.public,
      parseConfig(
        JSON.stringify({
          version: 1,
          name: 'acme',
          storeDir: lab.storeDir,
          publicKeys: [publicKey],
          substituter: `${gcs.origin}/acme-cache/team`,
          storage: urlFor('administrators', 'public'),
          staging: urlFor('administrators', 'staging'),
          private: urlFor('administrators', 'private'),
        }),
        'the configuration',
      ),
    );
    env = {
      NICHE_SIGNERS: `gcp-kms:${version}?name=acme-1`,
      NICHE_SWEEP_CALLER: caller,
      NICHE_TIME_LIMIT_SECONDS: '540',
      NICHE_KMS_ENDPOINT: kms.endpoint,
      ...services.env,
    };
    publish = await startFramework(folder, 'publish', envOf('publisher'));
    sweep = await startFramework(folder, 'sweep', envOf('sweep'));
  });
  after(async () => {
    await Promise.all([publish.kill(), sweep.kill()]);
    await Promise.all(Object.values(doors).map((door) => door.stop()));
    await Promise.all([gcs.stop(), kms.close(), services.stop(), lab.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  const urlFor = (member: Member, root: RootName): string =>
    gcs.url(buckets[root], doors[member].origin).replace('?', '/team?');
  const openAs = (member: Member): CacheBuckets =>
    forEachRoot((root) => openBucket(urlFor(member, root)));
  const envOf = (member: Member): Record<string, string> => ({
    ...env,
    NICHE_PUBLIC: urlFor(member, 'public'),
    NICHE_STAGING: urlFor(member, 'staging'),
    NICHE_PRIVATE: urlFor(member, 'private'),
  });

  /** Posts an event as Eventarc does: by default the attributes are headers and the body is data. */
  async function tell(
    name: string,
    mode: 'binary' | 'structured' = 'binary',
    generation?: string,
  ): Promise<number> {
    const { data, datacontenttype, ...attributes } = finalizedEvent(
      buckets.staging,
      name,
      generation,
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

  async function tellOf(id: BatchId, mode?: 'binary' | 'structured'): Promise<number> {
    const manifest = await administrator.staging.head(manifestKey(id));
    return tell(`team/${manifestKey(id)}`, mode, manifest?.etag);
  }

  async function uploaderStages(path: LocalPath): Promise<BatchId> {
    const [id] = await stageBackwards(uploader.staging, lab.storeDir, [path]);
    return id!;
  }

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
    published = closure;
    const ids = await stageBackwards(uploader.staging, lab.storeDir, closure);

    // While KMS is down nothing is signed, and the response makes Eventarc retry.
    kms.setState(version, 'DISABLED');
    assert.equal(await tellOf(ids[2]!), 500);
    assert.ok(publish.lines.some((line) => line.includes('"code":"wrong-key"')));
    kms.setState(version, 'ENABLED');

    // Kills the function at work. Then sends unordered, repeated and unrelated events in both modes.
    const killed = tellOf(ids[0]!).catch(() => 0);
    while ((await listKeys(administrator.private, 'attempts/')).length === 0) {
      if ((await Promise.race([killed, sleep(5)])) !== undefined) break;
    }
    await publish.kill();
    await killed;
    publish = await startFramework(folder, 'publish', envOf('publisher'));
    assert.equal(await tellOf(ids[0]!, 'structured'), 204);
    assert.equal(await tellOf(ids[0]!), 204);
    assert.equal(await tell('team/receipts/whatever.json'), 204);
    assert.equal(await tell(`team/staging/../${manifestKey(ids[1]!)}`), 204);
    assert.deepEqual(await Promise.all([tellOf(ids[1]!), tellOf(ids[2]!)]), [204, 204]);
    assert.ok((await push()).every((status) => status === 204));

    for (const { info } of closure) {
      assert.ok(await administrator.public.head(narInfoKey(storeHash(info.path))), info.path);
    }
    assert.deepEqual(await listKeys(administrator.staging, 'staging/'), []);
    assert.deepEqual(await listKeys(administrator.private, 'waiting/'), []);
    const records = await auditRecords(auditor);
    assert.ok(records.every(({ signers }) => signers[0]?.keyId === version));
    assert.ok(records.every(({ origin }) => origin?.via === 'event'));

    const upper = closure.find(({ info }) => info.path.endsWith('-upper'))!.info.path;
    const substituter = `${gcs.origin}/acme-cache/team`;
    await assertSubstituted(t, lab, upper, { substituter, publicKey });
  });

  it('withdraw a blocked path by the sweep, since the publisher deletes nothing public', async () => {
    const { path } = published[0]!.info;
    const hash = storeHash(path);
    const withdraw = { niche: 1, withdraw: hash };
    const authorization = `Bearer ${services.identityToken({ aud: `https://${sweep.host}`, email: caller })}`;
    const tellSweep = (message: object, headers = { authorization }): Promise<number> =>
      sweep.post('/', pushBody(message), headers);
    const isVisible = async (): Promise<boolean> =>
      (await administrator.public.head(narInfoKey(hash))) !== null;
    assert.equal(await tellSweep(withdraw), 200);
    assert.ok(await isVisible(), 'a path that is not blocked is withdrawn');

    // An administrator’s deletion came before the publisher’s creation.
    const record = { at: new Date().toISOString(), why: 'a test' };
    await administrator.private.put(blockedKey(hash), Buffer.from(JSON.stringify(record)));
    assert.equal(await publish.post(`/${topic}`, pushBody(withdraw)), 500);
    assert.ok(await isVisible());
    const again = await uploaderStages(published[0]!);
    assert.equal(await tellOf(again), 204);
    assert.deepEqual(services.withdrawals, [withdraw]);
    assert.equal(await tellSweep(services.withdrawals.shift()!, { authorization: 'none' }), 403);
    assert.equal(await tellSweep(withdraw), 200);
    assert.equal(await isVisible(), false);
    assert.equal(await tellSweep({ niche: 1, publish: { ...again, via: 'sweep' } }), 500);
  });

  it('leave malformed messages to the dead-letter topic', async () => {
    assert.equal(await publish.post(`/${topic}`, pushBody({ niche: 1 })), 500);
    const attributes = {
      'ce-id': '1',
      'ce-specversion': '1.0',
      'ce-type': 'google.cloud.storage.object.v1.finalized',
      'ce-source': '//storage.googleapis.com/projects/_/buckets/acme-cache-staging',
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

  it('have the rights that they use, and few others', async () => {
    // But for the withdrawal that was sent to the wrong function, and creations that lost a race.
    const expected = /^objects\.(?:create acme-cache-private\/team\/blocked|delete acme-cache)\//;
    const refused = doors.publisher.denials.filter((denial) => !expected.test(denial));
    assert.deepEqual([refused, doors.sweep.denials], [[], []]);

    const other = openAs('sweep');
    await assert.rejects(readObject(other.staging, 'staging/x'), denied);
    const narInfo = narInfoKey(storeHash(published[1]!.info.path));
    const publisher = openAs('publisher');
    await assert.rejects(publisher.public.delete([narInfo]), denied);
    for (const bucket of [publisher.public, other.public]) {
      await assert.rejects(bucket.put('niche.json', Buffer.from('{}')), denied);
    }
    for (const member of ['publisher', 'sweep', 'administrators'] as const) {
      const [record] = await listKeys(administrator.private, 'audit/');
      const bucket = openAs(member).private;
      await assert.rejects(bucket.put(record!, Buffer.from('')), denied);
      await assert.rejects(bucket.delete([record!]), denied);
    }
    await assert.rejects(
      publisher.private.put(blockedKey('a'.repeat(32)), Buffer.from('')),
      denied,
    );
    await assert.rejects(auditor.private.head('niche.signing.json'), denied);
  });

  it('allow a stolen upload credential to create staged objects, and nothing else', async () => {
    const rights = await tryUploaderRights(uploader, administrator);
    assert.deepEqual(rights, { overwrite: false, read: false, list: false, delete: false });
    const one = 'staging/0197cf0e-0000-7000-8000-000000000000/0.json';
    await uploader.staging.put(one, Buffer.from('1'), { ifAbsent: true });
    assert.equal(await uploader.staging.put(one, Buffer.from('2'), { ifAbsent: true }), 'exists');
    const large = await uploader.staging.upload(`${one}.nars`);
    await large.write(new Uint8Array(partBytes + 1));
    assert.equal(await large.commit({ ifAbsent: true }), 'created');
    await assert.rejects(uploader.staging.put('receipts/x/y.json', Buffer.from('1')), denied);
    await assert.rejects(listKeys(uploader.staging, 'staging/'), denied);
    await assert.rejects(uploader.private.head('niche.signing.json'), denied);
    await assert.rejects(listKeys(uploader.private, 'audit/'), denied);
    // It learns the ids of all uploads, and reads their receipts.
    assert.ok((await listKeys(uploader.staging, 'receipts/')).length > 0);
    await administrator.staging.delete([one, `${one}.nars`]);
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
