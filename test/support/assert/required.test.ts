import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { requireTool, whyNo } from './required.ts';

/** Sets `CI` until the end of the test. */
function inCi(t: TestContext, value: string): void {
  const before = process.env['CI'];
  process.env['CI'] = value;
  t.after(() => {
    if (before === undefined) delete process.env['CI'];
    else process.env['CI'] = before;
  });
}

const howToGet = 'no thing under the tools folder: run `npm run setup:test`';

test('a missing requirement skips the test with a hint; a present one does not', (t) => {
  inCi(t, '');
  assert.equal(whyNo('thing', null), howToGet);
  assert.equal(whyNo('thing', undefined), howToGet);
  assert.equal(whyNo('thing', '/bin/thing'), false);
  assert.equal(requireTool(t, 'thing', '/bin/thing'), '/bin/thing');
});

test('in CI a missing requirement fails the test', (t) => {
  inCi(t, 'true');
  assert.throws(() => whyNo('thing', null), { message: howToGet });
  assert.throws(() => requireTool(t, 'thing', null), { message: howToGet });
  assert.equal(whyNo('thing', '/bin/thing'), false);
});
