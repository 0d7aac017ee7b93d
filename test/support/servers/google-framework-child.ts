/**
 * Runs Google's functions framework, as Cloud Run functions do, but only on 127.0.0.1: by default it
 * listens on every interface. Sends its port by IPC.
 *
 * usage: FUNCTION_TARGET=… FUNCTION_SOURCE=… node google-framework-child.ts
 */
import { Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const prototype = Server.prototype as unknown as {
  listen(this: Server, port: unknown, then: () => void): Server;
};
// eslint-disable-next-line @typescript-eslint/unbound-method -- it is called with its server
const original = prototype.listen;
prototype.listen = function (_port, then) {
  return original.call(this, { port: 0, host: '127.0.0.1' }, () => {
    then();
    process.send?.({ port: (this.address() as AddressInfo).port });
  });
};

const framework = 'node_modules/@google-cloud/functions-framework/build/src/main.js';
await import(pathToFileURL(join(import.meta.dirname, '../../..', framework)).href);
