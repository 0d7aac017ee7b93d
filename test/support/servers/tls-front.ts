import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { promisify } from 'node:util';

/** A valid certificate of a server, and invalid ones. */
export interface TestCertificates {
  /** The authority of the others except `selfSigned`, for NODE_EXTRA_CA_CERTS. */
  readonly authorityFile: string;
  readonly good: Certificate;
  readonly expired: Certificate;
  readonly selfSigned: Certificate;
  /** A certificate for another name than 127.0.0.1. */
  readonly elsewhere: Certificate;
}

export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

/** Creates the certificates with `openssl` in `folder`. */
export async function makeCertificates(folder: string): Promise<TestCertificates> {
  const at = (name: string): string => join(folder, name);
  const openssl = async (...args: readonly string[]): Promise<void> => {
    await promisify(execFile)('openssl', args);
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const selfSign = async (name: string, ...extensions: readonly string[]): Promise<void> =>
    openssl(
      ...['req', '-x509', ...newKey, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`)],
      ...['-days', '2', '-subj', `/CN=${name}`],
      ...extensions.flatMap((extension) => ['-addext', extension]),
    );
  await selfSign('authority');
  await selfSign('selfSigned', 'subjectAltName=IP:127.0.0.1');
  const read = async (name: string): Promise<Certificate> => ({
    key: await readFile(at(`${name}.key`), 'utf8'),
    cert: await readFile(at(`${name}.pem`), 'utf8'),
  });
  const issue = async (name: string, names: string, ...days: readonly string[]) => {
    await writeFile(at(`${name}.ext`), `subjectAltName=${names}\n`);
    await openssl(
      ...['req', ...newKey, '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`)],
      ...['-subj', `/CN=${name}`],
    );
    await openssl(
      ...['x509', '-req', '-in', at(`${name}.csr`), '-out', at(`${name}.pem`), '-extfile'],
      ...[at(`${name}.ext`), '-CA', at('authority.pem'), '-CAkey', at('authority.key'), ...days],
    );
    return read(name);
  };
  return {
    authorityFile: at('authority.pem'),
    good: await issue('good', 'IP:127.0.0.1', '-days', '2'),
    expired: await issue('expired', 'IP:127.0.0.1', '-days', '-1'),
    elsewhere: await issue('elsewhere', 'DNS:elsewhere.example', '-days', '2'),
    selfSigned: await read('selfSigned'),
  };
}

/** A TLS server that forwards everything to the plain one at `origin`. */
export interface TlsFront {
  /** `https://127.0.0.1:<port>` */
  readonly url: string;
  stop(): Promise<void>;
}

export async function startTlsFront(origin: string, certificate: Certificate): Promise<TlsFront> {
  const { port, hostname } = new URL(origin);
  const sockets = new Set<Socket>();
  const server = createServer({ ...certificate }, (incoming) => {
    const onward = connect(Number(port), hostname);
    for (const [one, other] of [
      [incoming, onward],
      [onward, incoming],
    ] as const) {
      sockets.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close').catch(() => undefined);
    },
  };
}
