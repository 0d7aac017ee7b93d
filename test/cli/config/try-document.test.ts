import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { chmod, copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runCommand } from '../../support/lab/command.ts';
import { makeAgeKey, openSopsLab } from '../../support/lab/sops-lab.ts';

const emptyList = '<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>';

/** Starts an S3 server that stores nothing, and lets everyone write to the buckets `writable`. */
async function startServer(t: TestContext, writable: ReadonlySet<string>): Promise<number> {
  const server = createServer((request, response) => {
    const [, bucket = ''] = (request.url ?? '').split(/[/?]/);
    request.resume();
    request.on('end', () => {
      response.setHeader('etag', '"1"');
      const isChange = /^(?:PUT|POST|DELETE)$/.test(request.method ?? '');
      if (!isChange) response.end(request.method === 'GET' ? emptyList : '');
      else if (writable.has(bucket)) response.end();
      else response.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

test('config edit and upload refuse credentials that reach further than staging', async (t) => {
  const lab = await openSopsLab(t);
  const key = await makeAgeKey();
  const cache = join(lab.folder, 'cache');
  const editor = join(lab.folder, 'editor');
  const env = { ...lab.env, SOPS_AGE_KEY: key.secretKey, EDITOR: editor };
  const made = await runCommand(
    ['init', cache, '--name', 'acme', '--no-upstream', '--age', key.recipient],
    { env },
  );
  assert.equal(made.status, 0, made.stderr);
  const writable = new Set(['acme-staging']);
  const port = await startServer(t, writable);
  const url = (bucket: string): string => `s3://${bucket}?endpoint=http://127.0.0.1:${port}`;
  const configFile = join(cache, 'niche.json');
  const config = JSON.parse(await readFile(configFile, 'utf8')) as object;
  await writeFile(configFile, JSON.stringify({ ...config, private: url('acme-private') }));

  const edit = async (secretAccessKey: string) => {
    const value = {
      ...{ version: 1, storage: url('acme'), staging: url('acme-staging') },
      credentials: { kind: 's3', accessKeyId: 'AKIA', secretAccessKey },
    };
    await writeFile(editor, `#!/bin/sh\ncat > "$1" <<'E'\n${JSON.stringify(value)}\nE\n`);
    await chmod(editor, 0o755);
    return runCommand(['config', 'edit', '-u', cache], { env });
  };
  const edited = await edit('hush-1');
  assert.equal(edited.status, 0, edited.stderr);
  assert.match(edited.stderr, /tried the credentials for clients/);

  const document = join(cache, 'niche.client.json');
  const copy = join(lab.folder, 'copy');
  await copyFile(document, copy);
  for (const root of ['private', 'public'] as const) {
    writable.add(root === 'private' ? 'acme-private' : 'acme');
    // The flag leaves out the look at the signing document, which needs rights in the private root.
    const upload = ['config', 'upload', '--unsafe-share-signing-key', '-u', cache, copy];
    const uploaded = await runCommand(upload, { env });
    for (const refused of [await edit('hush-2'), uploaded]) {
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, new RegExp(`must not write to the ${root} root`));
      assert.doesNotMatch(refused.stderr, /hush/);
    }
    assert.equal(await readFile(document, 'utf8'), await readFile(copy, 'utf8'));
    writable.delete('acme-private');
  }
});
