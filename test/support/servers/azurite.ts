import type { TestContext } from 'node:test';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import type { AzureCredentials } from '../../../core/storage/credentials.ts';
import { findProgram } from '../../setup/programs.ts';
import { programPath, startFor, whyNo } from '../assert/required.ts';
import { startServerProcess } from './server-process.ts';

/** A real Azurite on 127.0.0.1, with its own folder. */
export interface Azurite {
  /** `http://127.0.0.1:<port>` */
  readonly origin: string;
  readonly account: string;
  /** The account's key. */
  readonly credentials: AzureCredentials;
  /** A client for operations that only tests need. */
  readonly admin: BlobServiceClient;
  /** `azure://account/container?endpoint=…`, through `origin` if a proxy is in between. */
  url(container: string, origin?: string): string;
  connectionString(origin?: string): string;
  /** Creates an empty container. @returns its name */
  createContainer(access?: 'blob'): Promise<string>;
  stop(): Promise<void>;
}

/** The well-known account of Azurite. */
const account = 'devstoreaccount1';
const accountKey =
  'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

/** Why a test of Azure is skipped here; see {@link whyNo}. */
export function whyNoAzurite(): string | false {
  return whyNo('azurite', findProgram('azurite-blob'));
}

/** Starts a server for one test; see {@link startFor}. */
export async function requireAzurite(t: TestContext): Promise<Azurite | null> {
  return startFor(t, whyNoAzurite(), startAzurite);
}

/** Starts a server. The caller must stop it. */
export async function startAzurite(): Promise<Azurite> {
  const server = await startServerProcess('azurite', (port, folder) => [
    process.execPath,
    programPath('azurite-blob'),
    ...['--blobHost', '127.0.0.1', '--blobPort', String(port), '--location', folder],
    ...['--silent', '--disableTelemetry', '--skipApiVersionCheck'],
  ]);
  const { origin } = server;
  const admin = new BlobServiceClient(
    `${origin}/${account}`,
    new StorageSharedKeyCredential(account, accountKey),
  );
  let containers = 0;
  return {
    ...server,
    account,
    credentials: { kind: 'azure', accountKey },
    admin,
    url: (container, through = origin) =>
      `azure://${account}/${container}?endpoint=${through}/${account}`,
    connectionString: (through = origin) =>
      `AccountName=${account};AccountKey=${accountKey};BlobEndpoint=${through}/${account}`,
    async createContainer(access) {
      containers += 1;
      const name = `container-${containers}`;
      await admin.createContainer(name, access === undefined ? {} : { access });
      return name;
    },
  };
}
