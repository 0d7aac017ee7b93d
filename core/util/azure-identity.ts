import type { DefaultAzureCredential } from '@azure/identity';

import { proxyAgentFor } from './network.ts';

/**
 * Opens Azure's own chain of credentials: environment, workload, managed identity, `az login`. Loads the
 * library. Its requests go through this process's proxies; by itself it would send them through one
 * proxy for all protocols.
 */
export async function openAzureIdentity(): Promise<DefaultAzureCredential> {
  const { DefaultAzureCredential: Credential } = await import('@azure/identity');
  return new Credential({
    additionalPolicies: [
      {
        // After the library's own policy, which chooses an agent too.
        position: 'perRetry',
        policy: {
          name: 'niche-proxy',
          sendRequest(request, next) {
            return next(Object.assign(request, { agent: proxyAgentFor(request.url) }));
          },
        },
      },
    ],
  });
}
