import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { configVersion, parseConfig } from '../../../core/cache/config.ts';
import { forEachRoot } from '../../../core/cache/roots.ts';
import { initCache } from '../../../core/cache/init.ts';
import { manifestKey, narInfoKey, signingConfigKey } from '../../../core/cache/layout.ts';
import type { BatchId } from '../../../core/cache/layout.ts';
import { blockPath } from '../../../core/cache/withdraw/block.ts';
import { toSecretTree } from '../../../core/cache/secret-documents.ts';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../core/nix/keys.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { encryptDocument } from '../../../core/secrets/document.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { startAzureAccount } from '../../support/servers/azure-account.ts';
import type { AzureAccount } from '../../support/servers/azure-account.ts';
import { startAzureHost } from '../../support/servers/azure-host.ts';
import type { AzureHost } from '../../support/servers/azure-host.ts';
import { whyNoAzurite } from '../../support/servers/azurite.ts';
import { listKeys, readObject } from '../../support/assert/bytes.ts';
import { auditRecords } from '../../support/cache/kit.ts';
import { startKeyVault } from '../../support/servers/key-vault.ts';
import type { KeyVault } from '../../support/servers/key-vault.ts';
import { assertSubstituted, buildClosure, stageBackwards } from '../../support/lab/nix-closure.ts';
import { bundleFunctions } from '../../support/servers/function-bundle.ts';
import { availableNix, createNixLab, whyNoNix } from '../../support/lab/nix-lab.ts';
import type { NixLab } from '../../support/lab/nix-lab.ts';
import { blobCreatedEvent } from '../../functions/azure-events.ts';

const nix = availableNix().at(-1);
const whyNoServer = whyNoAzurite();
const why = whyNoServer === false ? whyNoNix() : whyNoServer;
const prefix = 'team/';
const [work, withdrawals] = ['cache-private-work', 'cache-private-withdrawals'];

describe('the bundled Azure functions', { skip: why }, () => {
  let folder: string;
  let app: string;
  let account: AzureAccount;
  let vault: KeyVault;
  let host: AzureHost, sweeper: AzureHost;
  let lab: NixLab;
  let publicRoot: Bucket, stagingRoot: Bucket, privateRoot: Bucket;
  const key = generateSecretKey('acme-1', Buffer.alloc(32, 5));
  const publicKey = formatPublicKey(key.publicKey);

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'niche-azure-functions-'));
    app = await bundleFunctions('azure', folder);
    account = await startAzureAccount();
    vault = await startKeyVault(folder);
    lab = await createNixLab({ nix: nix! });
    await account.blobs.createContainer('cache', { access: 'blob' });
    for (const name of ['cache-staging', 'cache-private'])
      await account.blobs.createContainer(name);
    for (const name of [work, withdrawals]) {
      await account.queues.createQueue(name);
      await account.queues.createQueue(`${name}-poison`);
    }
    const credentials = { kind: 'azure', connectionString: account.connectionString } as const;
    const urls = forEachRoot((root) =>
      account.url(root === 'public' ? 'cache' : `cache-${root}`).replace('?', `/${prefix}?`),
    );
    ({
      public: publicRoot,
      staging: stagingRoot,
      private: privateRoot,
    } = forEachRoot((root) => openBucket(urls[root], { credentials })));
    await initCache(
      publicRoot,
      parseConfig(
        JSON.stringify({
          version: configVersion,
          name: 'acme',
          storeDir: lab.storeDir,
          publicKeys: [publicKey],
          substituter: `${account.publicUrl('cache')}/team`,
          storage: urls.public,
          staging: urls.staging,
          private: urls.private,
        }),
        'the configuration',
      ),
    );
    const start = (role: 'publisher' | 'sweep'): Promise<AzureHost> =>
      startAzureHost({
        app,
        queues: account.queues,
        retrySeconds: 0,
        settings: {
          NICHE_ROLE: role,
          NICHE_PUBLIC: urls.public,
          NICHE_STAGING: urls.staging,
          NICHE_PRIVATE: urls.private,
          NICHE_SIGNERS: 'secret-key:acme-1',
          NICHE_VAULT: vault.url,
          NICHE_WORK_QUEUE: work,
          NICHE_WITHDRAWALS_QUEUE: withdrawals,
          NICHE_SWEEP_SCHEDULE: '0 */15 * * * *',
          NICHE_TIME_LIMIT_SECONDS: '1800',
          NICHE_QUEUE: account.connectionString,
          AZURE_STORAGE_CONNECTION_STRING: account.connectionString,
          ...vault.identity,
        },
      });
    [host, sweeper] = [await start('publisher'), await start('sweep')];
  });
  after(async () => {
    await Promise.all([host.stop(), sweeper.stop()]);
    await Promise.all([account.stop(), vault.stop(), lab.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  /** Stores the secret key for the publisher, encrypted only for the vault's key. */
  async function writeSigningDocument(): Promise<void> {
    const recipient = {
      kind: 'azure-kv',
      vaultUrl: vault.url,
      name: vault.keyName,
      version: vault.version,
    } as const;
    const text = await encryptDocument(
      {
        tree: toSecretTree({ version: 1, secretKeys: [formatSecretKey(key)] }),
        recipients: [[recipient]],
        now: new Date(),
      },
      {
        wrap: (_, dataKey) =>
          Promise.resolve(Buffer.from(vault.encrypt(dataKey)).toString('base64url')),
      },
    );
    await privateRoot.put(signingConfigKey, Buffer.from(text));
  }

  /** Sends Event Grid's message for a new blob. */
  async function tell(key: string, container = 'cache-staging'): Promise<void> {
    const event = blobCreatedEvent(account.name, container, key);
    const text = Buffer.from(JSON.stringify(event)).toString('base64');
    await account.queues.getQueueClient(work).sendMessage(text);
  }

  const tellOf = (id: BatchId): Promise<void> => tell(`${prefix}${manifestKey(id)}`);

  /** Delivers messages until the queue is empty. @returns the result of each message */
  async function drain(limit = 50): Promise<string[]> {
    const verdicts: string[] = [];
    for (;;) {
      const verdict = await host.dequeue('publish');
      if (verdict === null) return verdicts;
      verdicts.push(verdict);
      assert.ok(verdicts.length < limit, 'the queue does not become empty');
    }
  }

  it('are registered with the triggers of the deployment', async () => {
    const typesOf = (app: AzureHost): unknown[] =>
      [...app.triggers].map(([name, { type }]) => [name, type]);
    assert.deepEqual(typesOf(host), [
      ['publish', 'queueTrigger'],
      ['poison', 'queueTrigger'],
    ]);
    assert.deepEqual(typesOf(sweeper), [
      ['withdraw', 'queueTrigger'],
      ['sweep', 'timerTrigger'],
      ['poison', 'queueTrigger'],
    ]);
    assert.equal(sweeper.triggers.get('withdraw')?.['queueName'], '%NICHE_WITHDRAWALS_QUEUE%');
    assert.equal(host.triggers.get('publish')?.['queueName'], '%NICHE_WORK_QUEUE%');
    assert.equal(host.triggers.get('publish')?.['connection'], 'NICHE_QUEUE');
    const settings = JSON.parse(await readFile(join(folder, 'host.json'), 'utf8')) as {
      extensions: { queues: { maxDequeueCount: number } };
    };
    assert.equal(settings.extensions.queues.maxDequeueCount, 5);
    assert.ok(existsSync(join(folder, 'package.json')));
  });

  it('publish paths that real Nix built and substitutes', async (t) => {
    const parts = [
      { name: 'lower' },
      { name: 'middle', deps: ['lower'] },
      { name: 'upper', deps: ['middle', 'lower'] },
    ];
    const closure = await buildClosure(lab, parts, 'upper');
    assert.equal(closure.length, 3);
    const ids = await stageBackwards(stagingRoot, lab.storeDir, closure);

    // Without the signing document, signing fails and no batch is lost.
    await tellOf(ids[2]!);
    assert.equal(await host.dequeue('publish'), 'again');
    assert.ok(host.logs.some(({ message }) => message.includes('"code":"wrong-key"')));
    await writeSigningDocument();

    // Delivers messages out of order and one twice, and kills a worker in between.
    await tellOf(ids[0]!);
    await tellOf(ids[1]!);
    await tellOf(ids[0]!);
    await tell(`${prefix}receipts/whatever.json`);
    await tell(`${prefix}${manifestKey(ids[0]!)}`, 'cache-private');
    await tell(`${prefix}staging/../${manifestKey(ids[0]!)}`);
    const killed = host.dequeue('publish');
    while ((await listKeys(privateRoot, 'attempts/')).length === 0) {
      if ((await Promise.race([killed, sleep(5)])) !== undefined) break;
    }
    host.kill();
    assert.match((await killed) ?? 'none', /^(?:lost|done)$/);
    const verdicts = await drain();
    assert.deepEqual([...new Set(verdicts)], ['done']);
    for (const { info } of closure) {
      assert.ok(await publicRoot.head(narInfoKey(storeHash(info.path))), info.path);
    }
    assert.deepEqual(await listKeys(stagingRoot, 'staging/'), []);
    assert.deepEqual(await listKeys(privateRoot, 'waiting/'), []);
    const records = await auditRecords({ private: privateRoot });
    assert.ok(records.length >= 3);
    assert.ok(records.every(({ publisher }) => publisher.startsWith('niche ')));
    assert.ok(vault.requests.includes('token https://vault.azure.net'));
    assert.ok(vault.requests.some((request) => request.endsWith('/decrypt')));

    const upper = closure.find(({ info }) => info.path.endsWith('-upper'))!.info.path;
    const substituter = `${account.publicUrl('cache')}/team`;
    await assertSubstituted(t, lab, upper, { substituter, publicKey });
  });

  it('move malformed messages to the poison queue, and log them', async () => {
    await account.queues
      .getQueueClient(work)
      .sendMessage(Buffer.from('nonsense').toString('base64'));
    assert.deepEqual(await drain(), ['again', 'again', 'again', 'again', 'poison']);
    const queue = account.queues.getQueueClient(`${work}-poison`);
    assert.equal((await queue.getProperties()).approximateMessagesCount, 1);
    assert.equal(await host.dequeue('poison'), 'done');
    assert.ok(
      host.logs.some(({ level, message }) => level === 'error' && message.includes('"poison"')),
    );
  });

  it('withdraw a blocked path in the app of the sweep, which runs no other job', async () => {
    const [key = ''] = (await listKeys(publicRoot)).filter((each) => each.endsWith('.narinfo'));
    const hash = key.slice(0, -'.narinfo'.length);
    const send = async (job: object): Promise<string | null> => {
      const text = Buffer.from(JSON.stringify({ niche: 1, ...job })).toString('base64');
      await account.queues.getQueueClient(withdrawals).sendMessage(text);
      return sweeper.dequeue('withdraw');
    };
    assert.equal(await send({ withdraw: hash }), 'done');
    const narInfo = await readObject(publicRoot, key);
    assert.ok(narInfo, 'it is not blocked');
    const roots = { public: publicRoot, private: privateRoot };
    await blockPath(roots, hash, { at: new Date().toISOString(), why: 'a test' });
    await publicRoot.put(key, narInfo);
    assert.equal(await send({ withdraw: hash }), 'done');
    assert.equal(await publicRoot.head(key), null);
    const upload = '00000000-0000-7000-8000-000000000000';
    assert.equal(await send({ publish: { upload, batch: 0, via: 'event' } }), 'again');
  });

  it('sweep when the timer fires, and log the result', async () => {
    assert.equal(await sweeper.fire('sweep'), null);
    const said = sweeper.logs.filter(({ message }) => message.includes('"message":"swept"'));
    assert.equal(said.length, 1);
  });

  it('log no secrets', () => {
    const logs = [...host.logs, ...sweeper.logs];
    const all = logs.map(({ message }) => message).join('\n');
    const secret = formatSecretKey(key).split(':')[1]!;
    assert.ok(!all.includes(secret) && !all.includes(secret.slice(0, 40)));
    assert.ok(!all.includes('AccountKey='));
    const levels = new Set(logs.map(({ level }) => level));
    assert.ok(!levels.has('stderr'), all);
  });
});
