import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';

import { isNicheError } from '../../core/errors.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import type { Nix } from '../nix/nix.ts';
import { pathInfosOf } from '../nix/path-infos.ts';
import { queryOutputs } from '../nix/query.ts';
import { followLog } from './json-log.ts';
import { createQueue, type Queue } from './queue.ts';
import type { BuildSource, BuiltPath, SourceSignals } from './source.ts';

/** Nix has exited when the build has ended, so that all its output is here but for the last packets. */
const closeTimeoutMs = 2_000;

/**
 * Returns the outputs that Nix's JSON log reports, or null where no socket for it can be made. The
 * client writes this log, so it covers remote builders, and users whom the daemon does not trust.
 */
export async function openLogSource(
  nix: Nix,
  folder: string,
  { ended, signal }: SourceSignals,
): Promise<BuildSource | null> {
  const socket = path.join(folder, 'log');
  const derivations = createQueue<string>();
  const server = await listen(socket, derivations, ended);
  if (server === null) return null;
  const seen = new Set<string>();

  async function* outputs(): AsyncGenerator<string> {
    for await (const drvPath of derivations.items) {
      try {
        seen.add(parseStorePath(drvPath, nix.storeDir).path);
        yield* await queryOutputs(nix, drvPath, { signal });
      } catch (error) {
        // The outputs of a failed content-addressed derivation are unknown.
        if (!isNicheError(error) || isNicheError(error, 'aborted')) throw error;
      }
    }
  }
  async function* paths(): AsyncGenerator<BuiltPath> {
    for await (const { valid } of pathInfosOf(nix, outputs(), { signal })) {
      for (const info of valid) {
        yield { path: info.path, drvPath: info.deriver, source: 'log', info };
      }
    }
  }
  return {
    config: [['json-log-path', socket]],
    derivations: seen,
    paths: paths(),
    keepFor: () => undefined,
    close: () => {
      server.close();
    },
  };
}

/** Queues the derivations of the logs that Nix writes to `socket`, until `ended`. */
async function listen(
  socket: string,
  derivations: Queue<string>,
  ended: AbortSignal,
): Promise<Server | null> {
  const connections = new Set<Socket>();
  const server = createServer((connection) => {
    connections.add(connection);
    const log = followLog();
    let rest = '';
    // Latin-1 keeps every byte. Store paths are ASCII.
    connection.setEncoding('latin1').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const built = log.read(line);
        if (built !== null) derivations.push(built);
      }
    });
    // A broken connection is followed by `close` too.
    connection.on('error', () => undefined);
    connection.on('close', () => {
      connections.delete(connection);
      for (const drvPath of log.unfinished()) derivations.push(drvPath);
    });
  });
  const onEnd = (): void => {
    const timer = setTimeout(() => {
      for (const connection of connections) connection.destroy();
    }, closeTimeoutMs);
    server.close(() => {
      clearTimeout(timer);
      derivations.end();
    });
  };
  return new Promise((resolve) => {
    // Paths of sockets are limited to about 100 bytes.
    server.once('error', () => {
      resolve(null);
    });
    server.listen(socket, () => {
      ended.addEventListener('abort', onEnd, { once: true });
      resolve(server);
    });
  });
}
