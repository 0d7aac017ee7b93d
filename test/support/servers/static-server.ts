import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

export interface StaticServer {
  /** The URL without a trailing slash. */
  readonly url: string;
  /** Method and path of every request so far, such as `GET /nix-cache-info`. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

/** Serves the current files below `folder` on 127.0.0.1. */
export async function serveFolder(folder: string): Promise<StaticServer> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://127.0.0.1');
    requests.push(`${request.method ?? ''} ${pathname}`);
    const answer = async (): Promise<void> => {
      const path = join(folder, decodeURIComponent(pathname));
      const info = await stat(path).catch(() => null);
      if (!info?.isFile() || !path.startsWith(join(folder, '/'))) {
        response.writeHead(404).end();
        return;
      }
      response.writeHead(200, { 'content-length': info.size });
      if (request.method === 'HEAD') {
        response.end();
        return;
      }
      await pipeline(createReadStream(path), response);
    };
    answer().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    close: () =>
      new Promise((resolve, reject) => {
        server.close((error) => {
          if (error) {
            reject(error);
          } else {
            resolve();
          }
        });
        server.closeAllConnections();
      }),
  };
}
