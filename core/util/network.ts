import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import tls from 'node:tls';

import { messageOf, quote } from '../errors.ts';
import { directHosts, noProxies, readProxies } from './proxies.ts';

/** The proxies of this process, which every module that sends requests uses. */
let proxies = noProxies;

/** Agents by the URL of their proxy, so that its connections are used again. */
const agents = new Map<string, http.Agent>();

/**
 * Makes this process connect as curl and Nix do: through the proxies of the environment, and with the
 * certificate authorities of `NIX_SSL_CERT_FILE` or `SSL_CERT_FILE` in place of the usual ones. Call it
 * once, before the first request. Adds hosts to `no_proxy` in `env` for libraries that read it themselves.
 *
 * @param env the process's own
 * @returns a warning, or null
 */
export function configureNetwork(env: NodeJS.ProcessEnv): string | null {
  proxies = readProxies(env);
  const excluded = env['no_proxy'] ?? env['NO_PROXY'] ?? '';
  env['no_proxy'] = [excluded, ...directHosts].filter((host) => host !== '').join(',');
  env['NO_PROXY'] = env['no_proxy'];
  return useAuthorities(env);
}

/**
 * Returns an agent that connects through the proxy for `url`; undefined to connect directly.
 *
 * @throws NicheError `usage` for a proxy that niche does not support
 */
export function proxyAgentFor(url: string): http.Agent | undefined {
  const target = new URL(url);
  const proxy = proxies.proxyFor(target);
  if (proxy === null) return undefined;
  const key = `${target.protocol} ${proxy}`;
  const agent =
    agents.get(key) ??
    (target.protocol === 'https:'
      ? new https.Agent({ keepAlive: true, proxyEnv: { https_proxy: proxy } })
      : new http.Agent({ keepAlive: true, proxyEnv: { http_proxy: proxy } }));
  agents.set(key, agent);
  return agent;
}

/** Returns whether this process has a proxy for most hosts. */
export function hasProxy(): boolean {
  return proxies.hasProxy;
}

/** The file of Nix's stdenv for builds, which must not trust any authority. */
const noCertificates = '/no-cert-file.crt';

function useAuthorities(env: NodeJS.ProcessEnv): string | null {
  const [name, file] =
    ['NIX_SSL_CERT_FILE', 'SSL_CERT_FILE']
      .map((each) => [each, env[each] ?? ''] as const)
      .find(([, value]) => value !== '') ?? [];
  if (name === undefined || file === undefined || file === noCertificates) return null;
  try {
    const text = readFileSync(file, 'utf8');
    const own = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    // NODE_EXTRA_CA_CERTS stays in force.
    tls.setDefaultCACertificates([...own, ...tls.getCACertificates('extra')]);
    return null;
  } catch (error) {
    return `using the usual certificate authorities, not ${quote(file)} of ${name}: ${messageOf(error)}`;
  }
}
