import { OAuth2Client } from 'google-auth-library';

import { NicheError, messageOf } from '../../core/errors.ts';

export interface TokenCheckOptions {
  /** The email address of the only service account that may call. */
  readonly email: string;
  /** The URL of the certificates of Google's identity tokens. */
  readonly certificates: string;
}

/**
 * Checks the identity token of a request.
 *
 * @param authorization the header of the request
 * @param host the host name of the request, which the token's audience must match
 * @throws NicheError `caller-denied`
 */
export type TokenCheck = (
  authorization: string | undefined,
  host: string | undefined,
) => Promise<void>;

/**
 * Returns the check of the identity token that Cloud Scheduler sends. Cloud Run already requires the
 * right to invoke, unless an administrator has granted it to everyone.
 *
 * @see https://cloud.google.com/scheduler/docs/http-target-auth
 */
export function createTokenCheck({ email, certificates }: TokenCheckOptions): TokenCheck {
  const client = new OAuth2Client({
    endpoints: { oauth2FederatedSignonPemCertsUrl: certificates },
  });
  return async (authorization, host) => {
    const [, idToken] = /^Bearer ([\w.-]+)$/i.exec(authorization ?? '') ?? [];
    if (idToken === undefined || host === undefined) throw denied('no identity token');
    let caller: { email?: string | undefined; email_verified?: boolean | undefined } | undefined;
    try {
      const ticket = await client.verifyIdToken({ idToken, audience: `https://${host}` });
      caller = ticket.getPayload();
    } catch (cause) {
      // The library's messages contain the token after the first colon or comma.
      const [reason = ''] = messageOf(cause).split(/[:,]/);
      throw denied(`invalid identity token (${reason})`);
    }
    if (caller?.email !== email || caller.email_verified !== true) {
      throw denied(`expected ${email}, got ${caller?.email ?? 'a token without an email address'}`);
    }
  };
}

function denied(reason: string): NicheError {
  return new NicheError('caller-denied', `authorizing a call of the sweep: ${reason}`);
}
