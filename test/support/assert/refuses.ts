import assert from 'node:assert/strict';
import { isNicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';

/** Asserts that `act` throws a NicheError with `code`; `about` describes the case. */
export function refuses(code: NicheErrorCode, act: () => unknown, about?: string): void {
  assert.throws(
    act,
    (error) => {
      if (!isNicheError(error)) {
        throw error;
      }
      assert.equal(error.code, code, `${about ?? 'refused'}: ${error.message}`);
      return true;
    },
    about,
  );
}
