import { OAuth2Client } from 'google-auth-library';

import { NicheError, messageOf } from '../../core/errors.ts';

export interface CallerOptions {
  /** The service account that alone may call, by its address. */
  readonly email: string;
  /** Where the certificates of Google's identity tokens are. */
  readonly certificates: string;
}

/**
 * Checks who calls an HTTP function by the identity token that Cloud Scheduler sends. Cloud Run has
 * asked for the right to invoke already, unless somebody gave that to everyone.
 *
 * @param authorization the request's header
 * @param host the name by which the function was called: the token must be for it
 * @throws NicheError `caller-denied`
 * @see https://cloud.google.com/scheduler/docs/http-target-auth
 */
export type CallerCheck = (
  authorization: string | undefined,
  host: string | undefined,
) => Promise<void>;

export function createCallerCheck({ email, certificates }: CallerOptions): CallerCheck {
  const client = new OAuth2Client({
    endpoints: { oauth2FederatedSignonPemCertsUrl: certificates },
  });
  return async (authorization, host) => {
    const [, idToken] = /^Bearer ([\w.-]+)$/i.exec(authorization ?? '') ?? [];
    if (idToken === undefined || host === undefined) throw denied('it brings no identity token');
    let caller: { email?: string | undefined; email_verified?: boolean | undefined } | undefined;
    try {
      const ticket = await client.verifyIdToken({ idToken, audience: `https://${host}` });
      caller = ticket.getPayload();
    } catch (cause) {
      // Of the token itself nothing is said: the library's messages have it whole.
      const [why = ''] = messageOf(cause).split(/[:,]/);
      throw denied(`its token is not valid (${why})`);
    }
    if (caller?.email !== email || caller.email_verified !== true) {
      throw denied(`it is ${caller?.email ?? 'somebody without an address'}`);
    }
  };
}

function denied(what: string): NicheError {
  return new NicheError('caller-denied', `the caller of the sweep is refused: ${what}`);
}
