import assert from 'node:assert/strict';
import { test } from 'node:test';

import { NicheError, messageOf, traceOf } from '../../core/errors.ts';
import { redactSecrets } from '../../core/redact.ts';
import { findSecrets, writtenText } from '../support/assert/secret-search.ts';

const secret = 'c2VjcmV0LXNlY3JldC1zZWNyZXQ';
const encoded = `${secret}%2F%2B%3D`;
const jwt = `eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.${secret}`;

/** Text of servers and SDKs, as it appears in errors. */
const samples = [
  `GET https://acme.blob.core.windows.net/c/k?sv=2024-11-04&sp=rcl&sig=${encoded}&se=2026`,
  `https://acme.blob.core.windows.net/c/k?sig=${encoded}`,
  `<Message>https://a/c?sp=r&amp;sig=${encoded}</Message>`,
  `https%3A%2F%2Fa%2Fc%3Fsp%3Dr%26sig%3D${encoded}`,
  `BlobEndpoint=https://a;SharedAccessSignature=sv=2024&sig=${encoded}`,
  `DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=${secret}==;EndpointSuffix=x`,
  `https://acme.s3.amazonaws.com/k?X-Amz-Signature=${secret}&X-Amz-Date=1`,
  `https://acme.s3.amazonaws.com/k?X-Amz-Security-Token=${encoded}&X-Amz-Date=1`,
  `https://acme.s3.amazonaws.com/k?x-amz-credential=${secret}%2Fs3&X-Amz-Date=1`,
  `https://storage.googleapis.com/b/k?X-Goog-Signature=${secret}&X-Goog-Date=1`,
  `Authorization: AWS4-HMAC-SHA256 Credential=${secret}/s3, SignedHeaders=host, Signature=${secret}`,
  `AWS4-HMAC-SHA256 Credential=${secret}/s3, SignedHeaders=host, Signature=${secret}`,
  `authorization: 'SharedKey acme:${secret}='`,
  `{"authorization":"Bearer ${secret}"}`,
  `the header was Bearer ${secret}`,
  `the header was SharedKey acme:${secret}=`,
  `host:acme\\nx-amz-security-token:${secret}\\n\\nhost`,
  `'x-amz-security-token': '${secret}'`,
  `<AWSAccessKeyId>${secret}</AWSAccessKeyId><SignatureProvided>${secret}</SignatureProvided>`,
  `<CanonicalRequestBytes>${secret}</CanonicalRequestBytes>`,
  `POST /token grant_type=x&client_secret=${secret}&client_assertion=${secret}`,
  `access_token=${secret}`,
  `the token ${jwt} has expired`,
  `https://me:${secret}@cache.example/nix-cache-info`,
  `AGE-SECRET-KEY-1${secret.toUpperCase()}`,
  `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`,
];

test('no secret is left in the text of a server', () => {
  for (const sample of samples) {
    const forms = [secret, secret.toUpperCase()];
    assert.deepEqual(findSecrets(forms, [writtenText(sample, redactSecrets(sample))]), []);
  }
});

test('other text is left as it is', () => {
  for (const text of [
    'reading "nar/0.nar.zst" in azure://acme/public failed: access denied (AuthorizationFailure, 403)',
    'opening s3://acme?region=eu-central-1&endpoint=https://s3.example:9000',
    'expected the bearer token or a signature of B2',
    'the signature of /nix/store/x is by acme-1, basic authentication is not',
    'https://acme.example/x?sv=2024&sp=rcl',
    'wrong public key: expected "acme-1:HuFS6IyGMGT47YKvp7jCezQNlz7dMtWdIR9xVT+76n4="',
    'could not reach user@example.org',
  ]) {
    assert.equal(redactSecrets(text), text);
  }
});

test('the message, the causes, the stack and the properties of an error are redacted', () => {
  const text = `https://acme.example/c?sig=${encoded}`;
  const cause = Object.assign(new Error(text), { response: { bodyAsText: text } });
  const error = new NicheError('storage-denied', `reading ${text} failed: ${messageOf(cause)}`, {
    cause,
  });
  const written = [error.message, messageOf(cause), traceOf(error), traceOf({ text }), error.stack];
  assert.match(traceOf(error), /bodyAsText/);
  const found = findSecrets(
    [secret],
    written.map((each) => writtenText(each ?? '', each ?? '')),
  );
  assert.deepEqual(found, []);
});

test('a long text takes little time', () => {
  for (const piece of [
    'sig',
    'a://',
    'eyJ-',
    'Bearer ',
    'authorization',
    '<AWSAccessKeyId',
    'x@',
  ]) {
    const text = piece.repeat(200_000);
    assert.ok(redactSecrets(text).length > 0);
  }
});
