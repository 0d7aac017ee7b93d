import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import packageJson from '../../package.json' with { type: 'json' };
import toolchainJson from '../../scripts/toolchain/package.json' with { type: 'json' };
import { cliDocs, cliDocsFile } from '../../scripts/cli-docs.ts';

const checkout = join(import.meta.dirname, '../..');
const documents = [
  ...['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'],
  ...readdirSync(join(checkout, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

function read(name: string): string {
  return readFileSync(join(checkout, name), 'utf8');
}

/** Returns the anchors of a Markdown text's headings, as GitHub makes them. */
function anchors(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test('docs/cli.md is the help of the command line', () => {
  assert.equal(readFileSync(cliDocsFile, 'utf8'), cliDocs(), 'run: npm run docs');
});

test('docs/troubleshooting.md quotes messages as they are in the code', () => {
  const sources = ['cli', 'core', 'functions', 'scripts']
    .flatMap((folder) =>
      readdirSync(join(checkout, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => /(?:\.ts|\.cjs|^niche)$/.test(name))
        .map((name) => read(`${folder}/${name}`)),
    )
    .join('\n');
  for (const [, message = ''] of read('docs/troubleshooting.md').matchAll(/^\*\*`(.*)`\*\*$/gm)) {
    // "…" and "<path>" stand for values; an action and its reason may come from different places.
    for (const part of message.split(/…|<\w+>|: /)) {
      const text = part.replaceAll(/^\W+|\W+$/g, '');
      assert.ok(sources.includes(text), `no message has "${text}"`);
    }
  }
});

test('links between documents have a target', () => {
  for (const name of documents) {
    for (const [, target = ''] of read(name).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [file = '', anchor] = target.split('#');
      const linked = file === '' ? name : join(dirname(name), file);
      assert.ok(existsSync(join(checkout, linked)), `${name} links to ${target}`);
      if (anchor !== undefined) {
        assert.ok(anchors(read(linked)).includes(anchor), `${name} links to ${target}`);
      }
    }
  }
});

test('every npm script in a document exists', () => {
  const scripts: Readonly<Record<string, string>> = packageJson.scripts;
  for (const name of documents) {
    for (const [, script = ''] of read(name).matchAll(/npm run ([a-z0-9:]+)/g)) {
      assert.ok(script in scripts, `${name} has npm run ${script}`);
    }
  }
});

test('docs/dependencies.md has a line for every dependency', () => {
  const text = read('docs/dependencies.md');
  const names = [packageJson.devDependencies, toolchainJson.optionalDependencies].flatMap(
    Object.keys,
  );
  for (const name of names) assert.match(text, new RegExp(`^\\| \\[.*${name}.*\\]`, 'm'));
});
