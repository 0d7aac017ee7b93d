import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { auditedStatus } from './records.ts';
import { requireAws } from '../../support/aws-cache.ts';
import { createMachine, skipUnlessChroot } from '../../support/e2e-machine.ts';
import { requireNix } from '../../support/nix-lab.ts';

describe('caches on AWS, as they are deployed', { timeout: 900_000 }, () => {
  test('what niche build stages is published, and real Nix installs it', async (t) => {
    const nix = requireNix(t);
    const aws = await requireAws(t);
    if (!nix || !aws) return;
    const machine = await createMachine(t, { nix });
    if (skipUnlessChroot(t, machine)) return;

    const main = await aws.cache('main');
    const pr = await aws.cache('pr', {
      init: ['--upstream', `${main.substituter}=${main.publicKey}`],
    });
    const build = (cache: typeof main, attribute: string, ...more: string[]) => [
      ...['build', '-u', cache.stack.outputs['PublicStorage'] ?? ''],
      ...['--', '-f', 'default.nix', attribute, ...more],
    ];

    // A graph of which one part fails: what did build is cached nevertheless.
    await machine.writeGraph([
      { name: 'lower', bytes: 20_000_000 },
      { name: 'upper', deps: ['lower'] },
      { name: 'broken', deps: ['upper'], fails: true },
      { name: 'proposal', deps: ['lower'] },
    ]);
    const uploader = await main.asUploader();
    const failed = await machine.niche(build(main, 'broken'), { env: uploader });
    assert.equal(failed.status, 1, failed.stderr);
    assert.match(failed.stderr, /^niche: 2 paths published/m);

    // Its pull request builds one part more, into its own cache.
    await machine.nicheDoes(build(pr, 'proposal', '--no-link'), { env: await pr.asUploader() });
    const [upper = '', lower = '', proposal = ''] = await Promise.all(
      ['upper', 'lower', 'proposal'].map((part) =>
        machine.output('nix-build', ['--no-out-link', '-A', part]),
      ),
    );

    // Whoever trusts main gets main’s paths, and of the pull request nothing.
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

    // The uploader of the pull request gets nothing signed by main’s key: it may not stage there.
    const evil = await machine.niche(
      ['push', '-u', main.stack.outputs['PublicStorage'] ?? '', proposal],
      { env: await pr.asUploader() },
    );
    assert.notEqual(evil.status, 0);
    assert.match(evil.stderr, /denied/i);

    // The audit tells who staged it, from where, and by which request it was signed.
    const records = await auditedStatus(main);
    assert.deepEqual([...records.keys()].sort(), [lower, upper].sort());
    const record = records.get(upper);
    assert.ok(record?.origin?.principal);
    assert.equal(record.origin.via, 'event');
    const [signer] = record.signers;
    assert.match(signer?.keyId ?? '', /^arn:aws:kms:/);
    assert.match(signer?.requestId ?? '', /./);
    assert.match(record.publisher, /niche-main-publish/);

    await machine.nicheDoes(['verify', '-u', main.stack.outputs['PublicStorage'] ?? ''], {
      env: aws.env,
    });
    const again = await main.stack.update(main.packaged);
    assert.equal(again, false, 'a second deploy of the same changes nothing');

    // No secret of anybody’s is in what the functions printed.
    const output = aws.output();
    for (const secret of [uploader['AWS_SECRET_ACCESS_KEY'], uploader['AWS_SESSION_TOKEN']]) {
      assert.ok(secret !== undefined && secret.length > 10 && !output.includes(secret));
    }
    assert.ok(output.includes('"message":"published"'));
    assert.match(output, /"CloudWatchMetrics"/);
    assert.doesNotMatch(output, /PRIVATE KEY|"level":"error"/);

    await main.stack.remove();
    await reader.output('nix', ['path-info', '--store', main.substituter, upper]);
  });
});
