import { messageOf, systemCode } from '@cardan/shared';

/** Why a connection failed, in words, and what to do. */
export interface Reason {
  reason: string;
  advice: string;
}

const CHECK_ADDRESS = 'Check the address and the port in --mqtt, and that the broker runs.';
const CLIENT_CERTIFICATE =
  'Check --mqtt-cert and --mqtt-key: is it still valid, and signed by an authority that the broker trusts?';

/** Codes of Node.js and OpenSSL. */
const REASONS: readonly [code: RegExp, reason: string, advice: string][] = [
  [/^ECONNREFUSED$/, 'nobody listens on this port', CHECK_ADDRESS],
  [/^(ENOTFOUND|EAI_AGAIN|EAI_NODATA)$/, 'the name is not known here', 'Check the name in --mqtt, and DNS.'],
  [
    /^(EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL)$/,
    'there is no way to this address',
    'Check the modem or network, and "ip route".',
  ],
  [/^ETIMEDOUT$/, 'no answer in time', 'A firewall, or no network. Check "ip route" and the address.'],
  [
    /^CERT_HAS_EXPIRED$/,
    "the broker's certificate, or one above it, has expired",
    'Renew it at the broker; check the clock here, too.',
  ],
  [/^CERT_NOT_YET_VALID$/, "the broker's certificate is not valid yet", 'The clock here is probably wrong.'],
  [
    /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?|UNABLE_TO_VERIFY_LEAF_SIGNATURE|CERT_SIGNATURE_FAILURE|CERT_UNTRUSTED)$/,
    "the broker's certificate is signed by an authority that is not trusted here",
    'Give the authority of the broker with --mqtt-ca. If you did, it is another one, or an intermediate certificate is missing at the broker.',
  ],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    "the broker's certificate is for another name",
    'Use the name that is in the certificate in --mqtt, or give the broker a certificate for this one.',
  ],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/,
    'the broker does not speak TLS on this port',
    'Use mqtt:// for this port, or the port for TLS, usually 8883.',
  ],
  [
    /CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE/,
    'the broker wants a client certificate',
    'Give --mqtt-cert and --mqtt-key.',
  ],
  [
    /ALERT_CERTIFICATE_EXPIRED/,
    'the broker says that the client certificate has expired',
    CLIENT_CERTIFICATE,
  ],
  [/ALERT_CERTIFICATE_REVOKED/, 'the broker says that the client certificate is revoked', CLIENT_CERTIFICATE],
  [
    /ALERT_UNKNOWN_CA/,
    'the broker does not trust the authority of the client certificate',
    CLIENT_CERTIFICATE,
  ],
  [
    /ALERT_(BAD|UNSUPPORTED)_CERTIFICATE|ALERT_CERTIFICATE_UNKNOWN|ALERT_DECRYPT/,
    'the broker refuses the client certificate',
    CLIENT_CERTIFICATE,
  ],
  [
    /KEY_VALUES_MISMATCH/,
    'the key does not belong to the client certificate',
    'Give the right pair with --mqtt-cert and --mqtt-key.',
  ],
  [
    /PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/,
    'broker and agent have no version of TLS in common',
    'Allow TLS 1.2 or 1.3 at the broker.',
  ],
  [
    /^(ECONNRESET|EPIPE)$/,
    'the broker closed the connection',
    'Its log says why. Behind TLS often the client certificate is not accepted.',
  ],
];

/** The reason in words; the code stays, to be looked up. */
export function reasonOf(error: unknown): Reason {
  const code = systemCode(error) ?? '';
  // OpenSSL's own name of the alert is sometimes only in the message.
  const text = `${code} ${messageOf(error).toUpperCase().replaceAll(' ', '_')}`;
  const found =
    REASONS.find(([pattern]) => pattern.test(code)) ?? REASONS.find(([pattern]) => pattern.test(text));
  if (found === undefined)
    return { reason: messageOf(error).split('\n')[0] ?? '', advice: 'The log of the broker may say more.' };
  return { reason: code === '' ? found[1] : `${found[1]} (${code})`, advice: found[2] };
}
