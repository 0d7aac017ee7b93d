import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const checkout = join(import.meta.dirname, '../..');

/** Returns the imports of each file within the tree, types included, as paths from the checkout. */
function readImports(): Map<string, string[]> {
  const files = new Set(globSync('{core,functions,cli}/**/*.ts', { cwd: checkout }));
  const imports = new Map<string, string[]>();
  for (const file of files) {
    const source = readFileSync(join(checkout, file), 'utf8');
    const specifiers = source.matchAll(/(?:from|import\()\s*'(\.{1,2}\/[^']+)'/g);
    const imported = [...specifiers].map(([, specifier = '']) => join(file, '..', specifier));
    imports.set(
      file,
      imported.filter((each) => files.has(each)),
    );
  }
  return imports;
}

/** Returns a circular path of imports, or null. */
function findCircle(imports: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const next of imports.get(file) ?? []) {
      const circle = visit(next, [...path, file]);
      if (circle) return circle;
    }
    done.add(file);
    return null;
  };
  for (const file of imports.keys()) {
    const circle = visit(file, []);
    if (circle) return circle;
  }
  return null;
}

// The lint refuses circles between folders: see mayImport in eslint.config.js.
test('no file imports itself through others', () => {
  const imports = readImports();
  assert.ok(imports.get('cli/main.ts')?.includes('cli/commands/init.ts'));
  assert.deepEqual(findCircle(imports), null);
});

test('finds a circle', () => {
  const circle = new Map([
    ['a', ['b']],
    ['b', ['c', 'd']],
    ['d', ['b']],
  ]);
  assert.deepEqual(findCircle(circle), ['b', 'd', 'b']);
});
