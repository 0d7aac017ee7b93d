import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';

import { isNicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';
import { decryptDocument } from '../../../core/secrets/document.ts';
import { toPlain } from '../../../core/secrets/json-tree.ts';
import type { JsonValue } from '../../../core/secrets/json-tree.ts';
import { decryptLeaf, leafBytes } from '../../../core/secrets/sops-value.ts';
import type { Identity } from '../../../core/secrets/recipient.ts';
import { programPath } from '../../support/assert/required.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { makeAgeKey, needSops, openSopsLab } from '../../support/lab/sops-lab.ts';
import type { SopsLab } from '../../support/lab/sops-lab.ts';

const data = corpus();
const folder = process.env['NICHE_CORPUS'] ?? '';
const options = data === null ? { skip: corpusMissing } : needSops();

const documents = (data?.entries('sops/') ?? [])
  .map(({ path }) => path)
  .filter((path) => !/\.plain|plaintext|sops\/keys\//.test(path));
const texts = new Map(documents.map((path) => [path, data?.read(path).toString() ?? '']));
const isJson = (path: string): boolean => /^\s*\{[^]*"sops"/.test(texts.get(path) ?? '');
const isOther = (path: string): boolean =>
  /\.(?:yaml|yml|env|ini)$/.test(path) &&
  /^ *(?:"?sops"?:|sops_|\[sops\])/m.test(texts.get(path) ?? '');

/** The error codes for the crafted documents that sops refuses. */
const refused: NicheErrorCode[] = [
  'altered-secrets',
  'malformed-secrets',
  'identity-failed',
  'no-identity',
];

/** Every private key of the corpus, in a home of its own. */
async function openCorpusLab(
  t: TestContext,
): Promise<{ lab: SopsLab; env: Record<string, string>; identities: readonly Identity[] }> {
  const lab = await openSopsLab(t);
  const keys = join(folder, 'sops/keys');
  const lines: string[] = [];
  for (const name of readdirSync(keys)) {
    const text = readFileSync(join(keys, name), 'utf8');
    lines.push(...text.split('\n').filter((line) => line.startsWith('AGE-SECRET-KEY-')));
    if (/\.(?:gpg|asc|pgp)$/.test(name)) await lab.gpg(['--import', join(keys, name)]);
  }
  const env = {
    SOPS_AGE_KEY: lines.join('\n'),
    SOPS_AGE_SSH_PRIVATE_KEY_FILE: join(keys, 'sops-nix-ssh-ed25519-key'),
  };
  return { lab, env, identities: lab.keyring(env).identities };
}

test('reads each SOPS JSON document of the corpus as the real sops does', options, async (t) => {
  const { lab, env, identities } = await openCorpusLab(t);
  const paths = documents.filter(isJson);
  assert.ok(paths.length > 50, `${paths.length} documents`);
  for (const path of paths) {
    const theirs = await judge(lab, path, env);
    if (theirs === null) {
      const failed = decryptDocument(texts.get(path) ?? '', identities, path);
      await assert.rejects(failed, (error) => isNicheError(error, ...refused), path);
      continue;
    }
    const { tree } = await decryptDocument(texts.get(path) ?? '', identities, path);
    const bytes = tree.get('data');
    if (bytes instanceof Uint8Array) {
      assert.deepEqual(Buffer.from(bytes), theirs.bytes, path);
    } else {
      const ours = toPlain(tree as JsonValue);
      assert.equal(JSON.stringify(ours), JSON.stringify(JSON.parse(theirs.json)), path);
    }
  }
});

test(
  'reads documents of other formats after the real sops has converted them to JSON',
  options,
  async (t) => {
    const { lab, env } = await openCorpusLab(t);
    const { secretKey, recipient } = await makeAgeKey();
    const paths = documents.filter(isOther);
    let read = 0;
    for (const path of paths) {
      const plain = await lab
        .sops(['decrypt', '--output-type', 'json', join(folder, path)], env)
        .catch(() => null);
      if (plain === null) continue;
      const document = await lab.sopsEncrypt(plain, ['--age', recipient]);
      const { identities } = lab.keyring({ SOPS_AGE_KEY: secretKey });
      const { tree } = await decryptDocument(document, identities, path);
      const ours = JSON.stringify(toPlain(tree as JsonValue));
      assert.equal(ours, JSON.stringify(JSON.parse(plain)), path);
      read += 1;
    }
    assert.ok(read > 20, `${read} of ${paths.length} documents`);
  },
);

test('decrypts every encrypted value of the corpus', data ? {} : { skip: corpusMissing }, () => {
  const lines = data?.read('sops/values.jsonl').toString().trim().split('\n') ?? [];
  assert.ok(lines.length > 100);
  for (const line of lines) {
    const {
      value,
      data_key_hex: key,
      aad,
      type,
      plaintext_base64: plain,
    } = JSON.parse(line) as Record<string, string>;
    const opened = decryptLeaf(value!, Buffer.from(key!, 'hex'), aad!, 'the value');
    assert.equal(opened.isComment, type === 'comment');
    const bytes = leafBytes(opened.value);
    assert.equal(Buffer.from(bytes).toString('base64'), plain, line);
  }
});

/** Decrypts with the real sops: to JSON, or to bytes for a binary file. Null if sops refuses. */
async function judge(
  lab: SopsLab,
  path: string,
  env: Record<string, string>,
): Promise<{ json: string; bytes: Buffer } | null> {
  const decrypt = ['decrypt', '--input-type', 'json', '--output-type'];
  const file = join(folder, path);
  const json = await lab.sops([...decrypt, 'json', file], env).catch(() => null);
  if (json === null) return null;
  const { stdout } = await promisify(execFile)(programPath('sops'), [...decrypt, 'binary', file], {
    env: { ...lab.env, ...env },
    encoding: 'buffer',
    maxBuffer: 2 ** 26,
  }).catch(() => ({ stdout: Buffer.alloc(0) }));
  return { json, bytes: stdout };
}
