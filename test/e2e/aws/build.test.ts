import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CreateKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { readSigningKey } from '../../../core/cache/keys/signing-keys.ts';
import { openAwsKms } from '../../../core/kms/aws.ts';
import { awsDataKeys } from '../../../core/secrets/aws-kms.ts';
import { kmsIdentity } from '../../../core/secrets/kms.ts';
import { auditedStatus } from './records.ts';
import { createAdversity } from '../../support/servers/aws-adversity.ts';
import { requireAws } from '../../support/servers/aws-cache.ts';
import type { NicheRun } from '../../support/lab/niche-process.ts';
import { createMachine, skipUnlessChroot } from '../../support/lab/e2e-machine.ts';
import { requireNix } from '../../support/lab/nix-lab.ts';
import { everyObject, findSecrets, writtenText } from '../../support/assert/secret-search.ts';
import type { Written } from '../../support/assert/secret-search.ts';

describe('caches deployed on AWS', () => {
  test('paths staged by niche build are published, and real Nix installs them', async (t) => {
    const nix = requireNix(t);
    const aws = await requireAws(t);
    if (!nix || !aws) return;
    const machine = await createMachine(t, { nix });
    if (skipUnlessChroot(t, machine)) return;

    // A second, non-KMS signing key, so that the test has key material to search for.
    const config = { endpoint: aws.endpoint, region: aws.region, credentials: aws.credentials };
    const kms = new KMSClient(config);
    const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
    const [arn, longKey] = [KeyMetadata?.Arn ?? '', 'niche-main-1-long'];
    const main = await aws.cache('main', {
      parameters: { moreSigners: `secret-key:${longKey}`, decryptKeys: arn },
      init: ['--no-upstream', '--signing-aws-kms', arn],
    });
    const identities = [kmsIdentity(awsDataKeys(() => Promise.resolve(openAwsKms({ config }))))];
    const secretKey = await readSigningKey(main.private, identities, longKey);
    const said: NicheRun[] = [];
    const pr = await aws.cache('pr', {
      init: ['--upstream', `${main.substituter}=${main.publicKey}`],
    });
    const build = (cache: typeof main, attribute: string, ...more: string[]) => [
      ...['build', '-u', cache.stack.outputs['PublicStorage'] ?? ''],
      ...['--', '-f', 'default.nix', attribute, ...more],
    ];

    // One part of the graph fails. The parts that built are cached.
    await machine.writeGraph([
      { name: 'lower', bytes: 20_000_000 },
      { name: 'upper', deps: ['lower'] },
      { name: 'broken', deps: ['upper'], fails: true },
      { name: 'proposal', deps: ['lower'] },
    ]);
    const uploader = await main.asUploader();
    const failed = await machine.niche(build(main, 'broken'), { env: uploader });
    said.push(failed);
    assert.equal(failed.status, 1, failed.stderr);
    assert.match(failed.stderr, /^niche: 2 paths published/m);

    // The pull request builds one more part into its own cache.
    const proposer = await pr.asUploader();
    said.push(await machine.nicheDoes(build(pr, 'proposal', '--no-link'), { env: proposer }));
    const [upper = '', lower = '', proposal = ''] = await Promise.all(
      ['upper', 'lower', 'proposal'].map((part) =>
        machine.output('nix-build', ['--no-out-link', '-A', part]),
      ),
    );

    // Readers that trust only main get main’s paths, and none from the pull request.
    const reader = await createMachine(t, { nix, trustedPublicKeys: [main.publicKey] });
    await reader.output('nix', ['copy', '--from', main.substituter, upper]);
    await reader.output('nix-store', ['--verify', '--check-contents']);
    await reader.configure({ substituters: `${pr.substituter} ${main.substituter}` });
    assert.notEqual((await reader.run('nix-store', ['--realise', proposal])).status, 0);
    assert.notEqual((await reader.run('nix-store', ['--check-validity', proposal])).status, 0);
    const trusting = await createMachine(t, {
      nix,
      trustedPublicKeys: [main.publicKey, pr.publicKey],
      settings: { substituters: `${pr.substituter} ${main.substituter}` },
    });
    await trusting.output('nix-store', ['--realise', proposal]);
    await trusting.output('nix-store', ['--verify', '--check-contents']);

    // The pull request’s uploader cannot stage to main, so main’s key signs nothing for it.
    const evil = await machine.niche(
      ['push', '-u', main.stack.outputs['PublicStorage'] ?? '', proposal],
      { env: proposer },
    );
    said.push(evil);
    assert.notEqual(evil.status, 0);
    assert.match(evil.stderr, /denied/i);

    // The audit log records the uploader, the origin and the signing request.
    const records = await auditedStatus(main);
    assert.deepEqual([...records.keys()].sort(), [lower, upper].sort());
    const record = records.get(upper);
    assert.ok(record?.origin?.principal);
    assert.equal(record.origin.via, 'event');
    assert.equal(record.signers.length, 2);
    const [signer] = record.signers;
    assert.match(signer?.keyId ?? '', /^arn:aws:kms:/);
    assert.match(signer?.requestId ?? '', /./);
    assert.match(record.publisher, /niche-main-publish/);

    const publicStorage = main.stack.outputs['PublicStorage'] ?? '';
    for (const args of [['verify'], ['audit', '--json']]) {
      const debugging = { ...aws.env, NICHE_DEBUG: '1' };
      said.push(await machine.nicheDoes([...args, '-u', publicStorage], { env: debugging }));
    }
    const again = await main.stack.update(main.packaged);
    assert.equal(again, false, 'a second deploy of the same changes nothing');

    // No stored object, log or output contains a secret.
    const output = aws.output();
    const secrets = [
      ...[uploader, proposer].flatMap((env) => [
        env['AWS_SECRET_ACCESS_KEY'] ?? '',
        env['AWS_SESSION_TOKEN'] ?? '',
      ]),
      ...createAdversity(aws, main)
        .functionEnvironments()
        .flatMap((env) => ['AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'].map((key) => env.get(key)))
        .filter((value) => value !== undefined),
      secretKey,
      // The key's seed, from which the whole key follows.
      Buffer.from(secretKey.split(':')[1] ?? '', 'base64').subarray(0, 32),
    ];
    assert.ok(secrets.length > 6, 'no function runs');
    const written = async (): Promise<Written[]> => [
      ...(await everyObject(aws)),
      ...said.map(({ stdout, stderr }, index) => writtenText(`niche ${index}`, stdout + stderr)),
      ...[main, pr].flatMap(({ name, stack, packaged }) => [
        writtenText(`the outputs of ${name}`, JSON.stringify(stack.outputs)),
        writtenText(`the template of ${name}`, JSON.stringify(packaged.template)),
      ]),
      writtenText('the functions and all else on AWS', output),
    ];
    assert.deepEqual(findSecrets(secrets, await written()), []);
    for (const [index, secret] of secrets.entries()) {
      const control = `{"data":"${Buffer.from(secret).toString('base64')}"}`;
      await main.private.put(`control-${index}`, Buffer.from(control));
    }
    const withControls = await written();
    for (const [index, secret] of secrets.entries()) {
      const found = findSecrets([secret], withControls);
      assert.ok(
        found.some((where) => where.endsWith(`/control-${index}`)),
        String(found),
      );
    }
    await main.private.delete(secrets.map((_, index) => `control-${index}`));
    assert.ok(output.includes('"message":"published"'));
    assert.match(output, /"CloudWatchMetrics"/);
    assert.doesNotMatch(output, /PRIVATE KEY|"level":"error"/);

    await main.stack.remove();
    await reader.output('nix', ['path-info', '--store', main.substituter, upper]);
  });
});
