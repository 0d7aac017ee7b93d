import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { startAzurite, whyNoAzurite, type Azurite } from '../support/servers/azurite.ts';
import { runNiche } from '../support/lab/niche-process.ts';
import { startFakeGcs, whyNoFakeGcs, type FakeGcs } from '../support/servers/fake-gcs.ts';
import { startS3Server, whyNoS3, type S3Server } from '../support/servers/s3-servers.ts';
import { makeCertificates, startTlsFront } from '../support/servers/tls-front.ts';

const home = await mkdtemp(join(tmpdir(), 'niche-bad-storage-'));
after(() => rm(home, { recursive: true, force: true }));
const certificates = await makeCertificates(home);

type Env = Readonly<Record<string, string | undefined>>;

interface Refusal {
  readonly why: string;
  readonly hint: string;
}

const untrusted: Refusal = {
  why: 'this machine does not trust the authority of the server’s certificate',
  hint: 'for an authority of your own, set SSL_CERT_FILE to a file with all authorities, or NODE_EXTRA_CA_CERTS to one with yours; Nix reads NIX_SSL_CERT_FILE',
};
const expired: Refusal = {
  why: 'the server’s certificate has expired (CERT_HAS_EXPIRED)',
  hint: 'renew the certificate; if it is still valid, set this machine’s clock',
};
const elsewhere: Refusal = {
  why: 'the server’s certificate is for another host name (ERR_TLS_CERT_ALTNAME_INVALID)',
  hint: 'use a host name that the certificate contains',
};
const plain: Refusal = {
  why: 'that server does not speak TLS',
  hint: 'if it is a plain HTTP server, write http:// instead of https://',
};
const broken: Refusal = {
  why: 'the server closed the connection (',
  hint: 'try again later; for a server that speaks TLS, write https://',
};

/** Runs niche with no configuration except `env`. */
async function say(
  args: readonly string[],
  env: Env,
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const nothing = { AWS_EC2_METADATA_DISABLED: 'true', AWS_CONFIG_FILE: '/dev/null' };
  return runNiche(args, { cwd: home, env: { ...nothing, HOME: home, ...env } });
}

function assertSaid(
  ran: { status: number | null; stdout: string; stderr: string },
  { why, hint }: Refusal,
): void {
  assert.equal(ran.status, 1, ran.stderr);
  assert.equal(ran.stdout, '');
  const [message = '', next = '', ...more] = ran.stderr.split('\n');
  assert.ok(message.startsWith('niche: ') && message.includes(why), ran.stderr);
  assert.equal(next, `hint: ${hint}`);
  assert.deepEqual(more, [''], 'a line that says what is wrong, and one that says what to do');
  assert.doesNotMatch(ran.stderr, /-secret|AAAAAAAA/);
}

/** Tests TLS faults in front of the server at `origin`. `at` builds a command for a URL. */
function tlsCases(
  origin: () => string,
  at: (url: string) => { readonly args: readonly string[]; readonly env: Env },
): void {
  for (const [name, refusal] of [
    ['good', untrusted],
    ['selfSigned', untrusted],
    ['expired', expired],
    ['elsewhere', elsewhere],
  ] as const) {
    test(`TLS: certificate: ${name}`, async (t) => {
      const front = await startTlsFront(origin(), certificates[name]);
      t.after(() => front.stop());
      const { args, env } = at(front.url);
      const trust = { NODE_EXTRA_CA_CERTS: certificates.authorityFile };
      assertSaid(await say(args, name === 'good' ? env : { ...env, ...trust }), refusal);
      if (name !== 'good') return;
      const trusted = await say(args, { ...env, ...trust });
      assert.equal(trusted.status, 0, trusted.stderr);
    });
  }

  test('TLS: https:// to a plain server, http:// to a TLS server', async (t) => {
    const encrypted = at(origin().replace('http:', 'https:'));
    assertSaid(await say(encrypted.args, encrypted.env), plain);
    const front = await startTlsFront(origin(), certificates.good);
    t.after(() => front.stop());
    const open = at(front.url.replace('https:', 'http:'));
    assertSaid(await say(open.args, open.env), broken);
  });
}

const init = (url: string): string[] => ['init', url, '--name', 'x', '--no-upstream'];
const status = (url: string): string[] => ['status', '-u', url];

/** Preloaded into Node, sets its clock two hours fast. */
const fastClock = `const Real = Date;
const aheadMs = 7_200_000;
globalThis.Date = class extends Real {
  constructor(...given) {
    if (given.length > 0) super(...given);
    else super(Real.now() + aheadMs);
  }
  static now() {
    return Real.now() + aheadMs;
  }
};
`;

describe('unusable S3', { skip: whyNoS3('versitygw') }, () => {
  let server: S3Server;
  before(async () => {
    server = await startS3Server('versitygw');
    const made = await say([...init(server.url('acme')), '--create'], server.env);
    assert.equal(made.status, 0, made.stderr);
    await writeFile(join(home, 'clock.mjs'), fastClock);
  });
  after(() => server.stop());

  /** One command that starts with a GET, one that starts with a bucket check. */
  const everyWay = (parameters = ''): string[][] => [
    status(server.url('acme') + parameters),
    [...init(server.url('acme') + parameters), '--create'],
  ];

  for (const [name, env, refusal] of [
    [
      'a wrong secret key',
      { AWS_SECRET_ACCESS_KEY: 'AAAAAAAA' },
      {
        why: 'the secret key does not belong to the access key (SignatureDoesNotMatch, 403)',
        hint: 'check AWS_SECRET_ACCESS_KEY, or the profile',
      },
    ],
    [
      'an unknown access key',
      { AWS_ACCESS_KEY_ID: 'nobody' },
      {
        why: 'the storage does not know this access key (InvalidAccessKeyId, 403)',
        hint: 'check AWS_ACCESS_KEY_ID, or the profile, and the endpoint',
      },
    ],
    [
      'no credentials',
      { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined },
      {
        why: 'there are no credentials',
        hint: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or specify a profile with ?profile=',
      },
    ],
  ] as const) {
    test(name, async () => {
      for (const args of everyWay()) {
        assertSaid(await say(args, { ...server.env, ...env }), refusal);
      }
    });
  }

  test('another region', async () => {
    const { endpoint } = server;
    for (const args of everyWay()) {
      const elsewhereArgs = args.map((arg) => arg.replace('us-east-1', 'eu-central-1'));
      assertSaid(await say(elsewhereArgs, server.env), {
        why: 'the bucket is not in the region eu-central-1 but in us-east-1 (AuthorizationHeaderMalformed, 400)',
        hint: `write s3://acme?region=us-east-1&endpoint=${endpoint}`,
      });
    }
  });

  test('a missing profile, despite other credentials', async () => {
    for (const args of everyWay('&profile=none')) {
      assertSaid(await say(args, server.env), {
        why: 'the profile "none" has no credentials',
        hint: 'see ~/.aws/config, or create it with: aws configure --profile none',
      });
    }
  });

  test('no such bucket', async () => {
    for (const args of [status(server.url('missing')), init(server.url('missing'))]) {
      assertSaid(await say(args, server.env), {
        why: 'there is no such bucket (NoSuchBucket, 404)',
        hint: 'check its name and region, or create it with: niche init --create',
      });
    }
  });

  // The server rejects signatures two hours in the future. Its response contains the right time.
  test('a wrong clock is corrected', async () => {
    const env = { ...server.env, NODE_OPTIONS: `--import ${join(home, 'clock.mjs')}` };
    const told = await say(status(server.url('acme')), env);
    assert.equal(told.status, 0, told.stderr);
    const made = await say([...init(server.url('fast')), '--create'], env);
    assert.equal(made.status, 0, made.stderr);
  });

  tlsCases(
    () => server.endpoint,
    (origin) => ({ args: status(server.url('acme', origin)), env: server.env }),
  );

  describe('read over HTTP', () => {
    tlsCases(
      () => server.endpoint,
      (origin) => ({ args: ['show', '-u', `${origin}/acme`], env: {} }),
    );
  });
});

describe('unusable Azure', { skip: whyNoAzurite() }, () => {
  let server: Azurite;
  before(async () => {
    server = await startAzurite();
    const env = { AZURE_STORAGE_CONNECTION_STRING: server.connectionString() };
    const made = await say([...init(server.url('acme')), '--create'], env);
    assert.equal(made.status, 0, made.stderr);
  });
  after(() => server.stop());

  test('no credentials, or credentials for another endpoint', async () => {
    const elsewhereString = server.connectionString('http://127.0.0.1:9');
    for (const env of [{}, { AZURE_STORAGE_CONNECTION_STRING: elsewhereString }]) {
      for (const args of [status(server.url('acme')), [...init(server.url('acme')), '--create']]) {
        assertSaid(await say(args, env), {
          why: 'it is not public, and there are no credentials for this account at this endpoint (AuthorizationFailure, 403)',
          hint: `set AZURE_STORAGE_CONNECTION_STRING (its BlobEndpoint being ${server.origin}/${server.account}), or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY`,
        });
      }
    }
  });

  test('a wrong key or SAS token', async () => {
    const endpoint = `${server.origin}/${server.account}`;
    const ofAccount = `AccountName=${server.account};BlobEndpoint=${endpoint}`;
    const sas = 'sv=2024-05-04&sp=rl&sr=c&se=2020-01-01T00:00:00Z&sig=AAAAAAAA';
    for (const AZURE_STORAGE_CONNECTION_STRING of [
      `${ofAccount};AccountKey=AAAAAAAA`,
      `${ofAccount};SharedAccessSignature=${sas}`,
    ]) {
      const ran = await say(status(server.url('acme')), { AZURE_STORAGE_CONNECTION_STRING });
      assertSaid(ran, {
        why: 'Azure rejects the credentials (AuthorizationFailure, 403)',
        hint: 'check that the key or SAS token belongs to this account and has not expired, and check the clock',
      });
    }
  });

  test('a malformed connection string', async () => {
    const env = { AZURE_STORAGE_CONNECTION_STRING: 'AAAAAAAA' };
    assertSaid(await say(status(server.url('acme')), env), {
      why: 'expected a connection string with AccountName or BlobEndpoint, and AccountKey or SharedAccessSignature',
      hint: 'print it with: az storage account show-connection-string --name <account>',
    });
  });

  test('no such container', async () => {
    const env = { AZURE_STORAGE_CONNECTION_STRING: server.connectionString() };
    for (const args of [status(server.url('missing')), init(server.url('missing'))]) {
      assertSaid(await say(args, env), {
        why: 'there is no such container (ContainerNotFound, 404)',
        hint: 'check the account and the container in the URL, or create it with: niche init --create',
      });
    }
  });

  tlsCases(
    () => server.origin,
    (origin) => ({ args: ['show', '-u', server.url('acme', origin)], env: {} }),
  );
});

describe('unusable Google Cloud Storage', { skip: whyNoFakeGcs() }, () => {
  let server: FakeGcs;
  before(async () => {
    server = await startFakeGcs();
    const made = await say([...init(server.url('acme')), '--create'], {});
    assert.equal(made.status, 0, made.stderr);
  });
  after(() => server.stop());

  test('no such bucket', async () => {
    for (const args of [status(server.url('missing')), init(server.url('missing'))]) {
      assertSaid(await say(args, {}), {
        why: 'there is no such bucket (',
        hint: 'check its name in the URL, or create it with: niche init --create',
      });
    }
  });

  test('unreadable credentials', async () => {
    const file = join(home, 'credentials.json');
    await writeFile(file, 'AAAAAAAA');
    for (const GOOGLE_APPLICATION_CREDENTIALS of [file, `${file}.none`]) {
      assertSaid(await say(status('gs://acme'), { GOOGLE_APPLICATION_CREDENTIALS }), {
        why: 'cannot read the file that GOOGLE_APPLICATION_CREDENTIALS specifies',
        hint: 'set it to a credentials file, or unset it and sign in with gcloud auth application-default login',
      });
    }
  });

  tlsCases(
    () => server.origin,
    (origin) => ({ args: status(server.url('acme', origin)), env: {} }),
  );
});
