import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import fc from 'fast-check';

import { findBlocks, removeBlock, writeBlock } from '../../../cli/use/nix-conf.ts';
import type { CacheEntry } from '../../../cli/use/nix-conf.ts';
import { refuses } from '../../support/assert/refuses.ts';

const acme: CacheEntry = {
  name: 'acme',
  substituter: 'https://acme.example',
  publicKeys: ['acme-1:key', 'acme-2:key'],
};

const add = (text: string | null, entry = acme): string => writeBlock(text, entry, 'a test').text;

function remove(text: string, name = acme.name): string | null {
  const block = findBlocks(text, 'a test').find((found) => found.name === name);
  assert.ok(block);
  return removeBlock(text, block);
}

const block = `# niche: acme begin
extra-substituters = https://acme.example
extra-trusted-public-keys = acme-1:key acme-2:key
# niche: acme end`;

/** Texts as people and editors write them: missing newlines, CRLF, NUL, bytes of any encoding. */
const texts = fc
  .array(
    fc.oneof(
      fc.constantFrom('sandbox = true', '# niche', '', '\r', '\0', 'extra-substituters = x'),
      fc.string({
        unit: fc.integer({ min: 0, max: 255 }).map((byte) => String.fromCharCode(byte)),
      }),
    ),
  )
  .map((lines) => lines.join('\n'));
const formerTexts = fc.option(texts, { nil: null });

const entries = fc
  .record({
    name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,8}$/),
    substituter: fc.webUrl(),
    publicKeys: fc.array(fc.stringMatching(/^[a-z]{1,5}-1:[A-Za-z0-9+/]{43}=$/), { maxLength: 3 }),
  })
  .map((entry): CacheEntry => entry);

describe('the block of niche in a nix.conf', () => {
  test('is added at the end, once', () => {
    assert.equal(add('sandbox = true\n'), `sandbox = true\n${block}\n`);
    assert.equal(add('sandbox = true'), `sandbox = true\n${block}`);
    assert.equal(add(''), `${block}\n`);
    assert.equal(add(null), `${block.replace('begin', 'begin (new file)')}\n`);
    const again = writeBlock(`${block}\nx = y\n`, acme, 'a test');
    assert.equal(again.change, 'unchanged');
    assert.equal(again.text, `${block}\nx = y\n`);
  });

  test('is updated in place', () => {
    const text = `a = b\n${block}\nc = d\n`;
    const renewed = { ...acme, substituter: 'https://new.example', publicKeys: ['acme-3:key'] };
    assert.deepEqual(writeBlock(text, renewed, 'a test'), {
      text: `a = b\n# niche: acme begin\nextra-substituters = https://new.example\nextra-trusted-public-keys = acme-3:key\n# niche: acme end\nc = d\n`,
      change: 'updated',
      before: 'https://acme.example',
    });
  });

  test('has only one line without keys', () => {
    const text = add('', { ...acme, publicKeys: [] });
    assert.equal(
      text,
      '# niche: acme begin\nextra-substituters = https://acme.example\n# niche: acme end\n',
    );
    assert.equal(remove(text), '');
  });

  test('is removed without a trace', () => {
    fc.assert(
      fc.property(formerTexts, entries, (former, entry) => {
        assert.equal(remove(add(former, entry), entry.name), former);
      }),
    );
  });

  test('is the same after it was written twice, or updated', () => {
    fc.assert(
      fc.property(formerTexts, entries, entries, (former, first, second) => {
        const written = add(former, first);
        assert.equal(add(written, first), written);
        const renamed = { ...second, name: first.name };
        assert.equal(add(written, renamed), add(former, renamed));
      }),
    );
  });

  test('can be added and removed for several caches in any order', () => {
    fc.assert(
      fc.property(
        texts,
        fc.uniqueArray(entries, { selector: ({ name }) => name, minLength: 1, maxLength: 4 }),
        fc.infiniteStream(fc.nat()),
        (former, added, choices) => {
          const written = added.reduce((text, entry) => add(text, entry), former);
          const left = added.map(({ name }) => name);
          let text: string | null = written;
          while (left.length > 0) {
            const [name = ''] = left.splice(choices.next().value % left.length, 1);
            text = remove(text, name);
            assert.ok(text !== null);
          }
          assert.equal(text, former);
        },
      ),
    );
  });

  test('is removed from a new file, and later lines of others stay', () => {
    assert.equal(remove(`${add(null)}mine = 1\n`), 'mine = 1\n');
  });

  for (const [about, text] of [
    ['no end', block.replace('\n# niche: acme end', '')],
    ['no begin', block.replace('# niche: acme begin\n', '')],
    ['another begin inside', `# niche: other begin\n${block}`],
    ['another end', block.replace('acme end', 'other end')],
    ['a second one', `${block}\n${block}`],
    ['a line of somebody else’s', block.replace('\nextra-t', '\nsandbox = false\nextra-t')],
  ] as const) {
    test(`is not repaired: ${about}`, () => {
      refuses('malformed-config', () => findBlocks(`x = y\n${text}\n`, 'a test'));
      refuses('malformed-config', () => writeBlock(text, acme, 'a test'));
    });
  }
});
