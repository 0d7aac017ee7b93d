import type { TestContext } from 'node:test';
import { findProgram } from '../../setup/programs.ts';
import { programPath, startFor, whyNo } from '../assert/required.ts';
import { startResumableUploads } from './resumable-uploads.ts';
import { startServerProcess } from './server-process.ts';

/** A real fake-gcs-server, on 127.0.0.1, whose objects are in memory. */
export interface FakeGcs {
  /** `http://127.0.0.1:<port>` */
  readonly origin: string;
  /** `gs://bucket?endpoint=…`, through `origin` if a proxy is in between. */
  url(bucket: string, origin?: string): string;
  /** Returns the URL at which everyone can read the bucket's objects. */
  publicUrl(bucket: string): string;
  /** Creates an empty bucket. @returns its name */
  createBucket(name?: string): Promise<string>;
  stop(): Promise<void>;
}

/** Why a test of Google is skipped here; see {@link whyNo}. */
export function whyNoFakeGcs(): string | false {
  return whyNo('fake-gcs-server', findProgram('fake-gcs-server'));
}

/** Starts a server for one test; see {@link startFor}. */
export async function requireFakeGcs(t: TestContext): Promise<FakeGcs | null> {
  return startFor(t, whyNoFakeGcs(), startFakeGcs);
}

/** Starts a server. The caller must stop it. */
export async function startFakeGcs(): Promise<FakeGcs> {
  const server = await startServerProcess('fake-gcs', (port) => [
    programPath('fake-gcs-server'),
    ...['-scheme', 'http', '-host', '127.0.0.1', '-port', String(port), '-backend', 'memory'],
    // The server accepts `/bucket/object`, as on Google's public address, only for this host name.
    ...['-public-host', '127.0.0.1', '-log-level', 'error'],
  ]);
  const uploads = await startResumableUploads(server.origin);
  const { origin } = uploads;
  let buckets = 0;
  return {
    origin,
    url: (bucket, through = origin) => `gs://${bucket}?endpoint=${through}`,
    publicUrl: (bucket) => `${origin}/${bucket}`,
    async createBucket(wanted) {
      buckets += 1;
      const name = wanted ?? `bucket-${buckets}`;
      const response = await fetch(`${origin}/storage/v1/b?project=test`, {
        method: 'POST',
        body: JSON.stringify({ name }),
      });
      if (!response.ok) throw new Error(`creating ${name}: ${await response.text()}`);
      return name;
    },
    async stop() {
      await uploads.stop();
      await server.stop();
    },
  };
}
