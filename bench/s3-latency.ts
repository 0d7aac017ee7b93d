import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { availableNix } from '../test/support/lab/nix-lab.ts';
import { startFaultProxy } from '../test/support/servers/fault-proxy.ts';
import type { ProxiedRequest } from '../test/support/servers/fault-proxy.ts';
import { startS3Server } from '../test/support/servers/s3-servers.ts';
import type { S3Server } from '../test/support/servers/s3-servers.ts';
import { startSlowLink } from '../test/support/servers/slow-link.ts';
import { openBenchLab } from './lab.ts';
import { measure } from './measure.ts';
import type { Command } from './measure.ts';
import { smallPaths } from './small-paths.ts';

/*
 * Measures a push of small paths to a real S3 server over a link with latency, until the last receipt.
 * Compares it with `nix copy --to http://…` over such a link to a server that stores each PUT. The
 * publisher is a worker next to the storage, like a cloud function: first a new one, then one with
 * earlier work, as usual. Counts the requests of both sides.
 */

const roundTripMs = 50;
const count = process.argv.includes('--quick') ? 50 : 1000;

const bench = await openBenchLab();
const s3 = await startInMemory();
const counted = await startFaultProxy(s3.endpoint);
const link = await startSlowLink(counted.url, roundTripMs);
const store = await startPutServer();
const peerLink = await startSlowLink(store.url, roundTripMs);
try {
  const { lab } = bench;
  const paths = await add(count, 0);
  const others = await add(256, 1_000_000);
  const ours = [await push(paths, []), await push(paths, others)];

  for (const nix of availableNix()) {
    const before = store.requests();
    store.clear();
    const copy = bench.nix('copy', '--to', `${peerLink.url}?compression=zstd`, ...paths);
    const home = join(lab.folder, `home-${nix.version}`);
    const env = { ...copy.env, HOME: home, XDG_CACHE_HOME: join(home, '.cache') };
    const peer = await measure({ ...copy, command: join(nix.bin, 'nix'), env });
    tell(`nix copy ${nix.version} --to http://`, peer.wallSeconds, store.requests() - before);
    const ratios = ours.map((seconds) => (peer.wallSeconds / seconds).toFixed(1));
    console.log(`  niche is ${ratios.join(' and ')} times as fast`);
  }
} finally {
  await Promise.all([link.stop(), peerLink.stop()]);
  await counted.stop();
  await s3.stop();
  store.close();
  await bench.close();
}

/**
 * Starts the server, with its files in memory if possible, like the peer's server. The speed of the disk
 * is not part of the measurement.
 */
async function startInMemory(): Promise<S3Server> {
  try {
    return await startS3Server('versitygw', { folder: '/dev/shm' });
  } catch {
    return startS3Server('versitygw');
  }
}

/** Adds paths to the store of the lab. */
async function add(howMany: number, seed: number): Promise<string[]> {
  const { lab } = bench;
  await writeFile(join(lab.work, 'small.nix'), smallPaths(howMany, seed));
  const evaluate = ['--eval', '--json', '--strict', '--read-write-mode', 'small.nix'];
  return JSON.parse(await lab.output('nix-instantiate', evaluate)) as string[];
}

/**
 * Pushes the paths over the link, to a new cache.
 *
 * @param before paths that the worker has published before
 * @returns the duration in seconds
 */
async function push(paths: readonly string[], before: readonly string[]): Promise<number> {
  const name = before.length === 0 ? 'begun' : 'worked';
  const near = `${s3.url(name, s3.endpoint)}&conditional=yes`;
  const far = `${s3.url(name, link.url)}&conditional=yes`;
  const flags = ['--create', '--name', name, '--no-upstream', '--no-listings'];
  await measure(fresh(bench.niche('init', near, ...flags)));
  const publisher = await startInBackground(
    fresh(bench.niche('worker', near, '--interval', '100ms')),
  );
  if (before.length > 0) await measure(fresh(bench.niche('push', '-u', near, ...before)));
  const from = counted.requests.length;
  const { wallSeconds } = await measure(fresh(bench.niche('push', '-u', far, ...paths)));
  await publisher.stop();
  const requests = counted.requests.slice(from);
  const of = (matches: (request: ProxiedRequest) => boolean): number =>
    requests.filter(matches).length;
  tell(`niche, a worker that has ${name}, to the last receipt`, wallSeconds, requests.length);
  const staging = of(({ path }) => path.includes('/staging/'));
  const presence = of(({ path }) => path.includes('.narinfo'));
  const listings = of(({ method, path }) => method === 'GET' && /[?&]list-type/.test(path));
  console.log(`  staging ${perPath(staging)}, presence ${perPath(presence)}; listings ${listings}`);
  return wallSeconds;
}

/** Adds the credentials. The lab is new, so that neither side has any local state. */
function fresh(command: Command): Command {
  return { ...command, env: { ...command.env, ...s3.env } };
}

/** Starts a command that runs until it is stopped, and waits for its first output. */
async function startInBackground(command: Command): Promise<{ stop: () => Promise<void> }> {
  const { args, env, cwd } = command;
  const child = spawn(command.command, args, { env, cwd, stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  await once(child.stderr, 'data');
  child.stderr.resume();
  return {
    async stop() {
      child.kill();
      await ended;
    },
  };
}

function tell(what: string, seconds: number, requests: number): void {
  console.log(`${what}: ${seconds.toFixed(1)} s, ${requests} requests, ${perPath(requests)}`);
}

function perPath(requests: number): string {
  return `${(requests / count).toFixed(3)} a path`;
}

/** Starts the peer's server, which accepts PUT and keeps everything in memory. */
async function startPutServer(): Promise<{
  url: string;
  requests: () => number;
  clear: () => void;
  close: () => Server;
}> {
  const kept = new Map<string, Buffer>();
  let requests = 0;
  const server = createServer((incoming, outgoing) => {
    requests += 1;
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const key = incoming.url ?? '';
      if (incoming.method === 'PUT') kept.set(key, Buffer.concat(chunks));
      const found = kept.get(key);
      const body = incoming.method === 'GET' ? found : undefined;
      const length = incoming.method === 'PUT' ? 0 : (found?.length ?? 0);
      outgoing.writeHead(found ? 200 : 404, { 'content-length': length }).end(body);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: () => requests,
    clear() {
      kept.clear();
    },
    close: () => {
      server.closeAllConnections();
      return server.close();
    },
  };
}
