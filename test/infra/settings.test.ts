import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isNicheError } from '../../core/errors.ts';
import { readAzureSettings } from '../../functions/azure/settings.ts';
import { readGoogleSettings } from '../../functions/google/settings.ts';
import type { Environment } from '../../functions/shared/settings.ts';

const infra = join(import.meta.dirname, '../../infra');

/** Returns the settings that a function requires, taken from its own error message. */
function required(read: (env: Environment) => unknown): string[] {
  try {
    read({});
  } catch (error) {
    if (isNicheError(error, 'malformed-config')) return error.message.match(/\bNICHE_\w+/g) ?? [];
    throw error;
  }
  return [];
}

describe('the settings of a deployment', () => {
  for (const [cloud, read] of [
    ['azure', readAzureSettings],
    ['google', readGoogleSettings],
  ] as const) {
    it(`include all that the function of ${cloud} requires`, async () => {
      const names = await readdir(join(infra, cloud));
      const sources = names.filter((name) => /\.(?:bicep|tf)$/.test(name));
      const texts = await Promise.all(
        sources.map((name) => readFile(join(infra, cloud, name), 'utf8')),
      );
      const made = new Set(texts.join('\n').match(/\bNICHE_\w+(?=\s*[:=])/g));
      const needed = required(read);
      assert.ok(needed.length >= 5);
      for (const name of needed) assert.ok(made.has(name), `${name} is not set`);
    });
  }
});
