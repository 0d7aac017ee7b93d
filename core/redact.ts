/** Parameters of URLs, form fields and connection strings that authenticate a request. */
const parameters = [
  'sig',
  'x-amz-(?:signature|security-token|credential)',
  'x-goog-(?:signature|credential)',
  'awsaccesskeyid',
  'googleaccessid',
  'signature',
  'credential',
  'accountkey',
  'sharedaccesssignature',
  'aws_secret_access_key',
  'aws_session_token',
  '(?:access|refresh|id|session|security)_?token',
  'client_(?:secret|assertion)',
  'assertion',
  'password',
];

/** Headers that authenticate a request, in any notation: `name: value`, `"name":"value"`. */
const headers = [
  '(?:proxy-|x-ms-copy-source-)?authorization',
  'x-amz-security-token',
  'x-amz-server-side-encryption-customer-key',
  '(?:set-)?cookie',
];

/** XML elements of error documents. */
const elements = [
  'AWSAccessKeyId',
  'SignatureProvided',
  'StringToSignBytes',
  'CanonicalRequestBytes',
];

const redacted = '(redacted)';

/**
 * Each with one group before the secret. Every pattern is linear in the length of the text. A name may
 * follow an encoded character such as `%26` or `\n`, so it need not start a word.
 */
const patterns: readonly RegExp[] = [
  new RegExp(`((?:${parameters.join('|')})(?:=|%3D))[^&;,\\s"'<>\`\\\\]+`, 'gi'),
  new RegExp(`((?:${headers.join('|')})["']?\\s?[:=]\\s?["']?)[^"'\\r\\n\\\\]+`, 'gi'),
  new RegExp(`(<(?:${elements.join('|')})>)[^<]+`, 'gi'),
  // Schemes of the Authorization header, without its name.
  /(\b(?:Bearer|Basic)\s)[\w.~+/-]{16,}=*/g,
  /(\bSharedKey(?:Lite)?\s[a-z0-9]+:)[\w+/]+=*/g,
  // A user and a password in a URL.
  /(\b[a-z][a-z0-9+]*:\/\/)[^/?#@\s"'<>]+(?=@)/gi,
  /()(?<![\w-])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*/g,
  /(AGE-SECRET-KEY-1)[0-9A-Z]+/gi,
  /(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]*/g,
];

/**
 * Returns text from elsewhere, such as a server's response, without the secrets that it may contain:
 * signatures and tokens of requests, credentials and private keys.
 */
export function redactSecrets(text: string): string {
  return patterns.reduce((rest, pattern) => rest.replace(pattern, `$1${redacted}`), text);
}
