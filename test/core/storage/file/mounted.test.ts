import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { it } from 'node:test';
import { messageOf } from '../../../../core/errors.ts';
import { inCi } from '../../../setup/tools.ts';
import { listKeys, patternBytes } from '../../../support/assert/bytes.ts';
import { temporaryFileBucket } from '../../../support/buckets/file-bucket.ts';

const mib = 2 ** 20;

/** Mounts a small in-memory file system. Returns the reason if it cannot. */
function mount(directory: string): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    return 'mounting a small disk needs root on Linux';
  }
  try {
    const options = ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', directory];
    execFileSync('mount', options, { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    // In CI, a missing requirement is a failure.
    if (inCi()) throw error;
    return `this root may not mount: ${messageOf(error)}`;
  }
}

it('reports a full, read-only or unmounted disk as full, denied or unavailable', async (context) => {
  const { bucket, directory, close } = await temporaryFileBucket();
  context.after(close);
  const reason = mount(directory);
  if (reason !== undefined) {
    context.skip(reason);
    return;
  }
  let isMounted = true;
  function unmount(): void {
    if (isMounted) execFileSync('umount', [directory]);
    isMounted = false;
  }

  try {
    await bucket.put('small', patternBytes(1000));
    const full = { code: 'storage-full' };
    await assert.rejects(bucket.put('large', patternBytes(3 * mib), { ifAbsent: true }), full);
    const upload = await bucket.upload('nar/large');
    await upload.write(patternBytes(mib));
    await assert.rejects(async () => {
      await upload.write(patternBytes(2 * mib));
      await upload.commit();
    }, full);
    await assert.rejects(upload.commit(), full);
    await upload.abort();
    assert.deepEqual(await listKeys(bucket), ['small']);
    assert.equal(await bucket.put('fits', patternBytes(mib)), 'created');

    execFileSync('mount', ['-o', 'remount,ro', directory]);
    await assert.rejects(bucket.put('x', patternBytes(1)), { code: 'storage-denied' });
    await assert.rejects(bucket.delete(['small']), { code: 'storage-denied' });
    assert.equal((await bucket.head('small'))?.size, 1000);

    unmount();
    const unavailable = { code: 'storage-unavailable' };
    await assert.rejects(bucket.head('small'), unavailable);
    await assert.rejects(bucket.put('small', patternBytes(1)), unavailable);
    await assert.rejects(listKeys(bucket), unavailable);
  } finally {
    unmount();
  }
});
