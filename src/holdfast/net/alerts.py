"""OpenSSL's errors in the words of whoever has to mend them.

Owns: what each failure of a handshake means at each side, and what to do. What may never happen here: OpenSSL's own line, with its
numbers and file names, in front of a person.
"""

from __future__ import annotations

import re
import ssl

_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(\w+)")
_WORDS = re.compile(r"\] (.*?) \(_ssl\.c")
_PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")

_ALERTS = {
    "unknown_ca": "it does not trust the authority that issued our certificate; add that authority to its trust",
    "bad_certificate": "it does not accept our certificate",
    "certificate_required": "it wants a certificate from us; give TlsConfig(certificate=…, key=…) or --tls-cert and --tls-key",
    "certificate_expired": "our certificate is expired; renew it",
    "certificate_revoked": "our certificate is revoked; get another one",
    "certificate_unknown": "it does not accept our certificate",
    "unsupported_certificate": "it does not accept the kind of our certificate",
    "no_application_protocol": "it speaks TLS, and another protocol than ours (ALPN)",
    "protocol_version": "it takes no TLS version that we speak; both sides need TLS 1.3, or minimum='1.2' on both",
    "handshake_failure": "we have no ciphers in common, or it wanted a certificate from us",
    "unrecognized_name": "it has no certificate for the name we asked for; see server_name",
}
"""What the peer means, by the alert it sent. The text follows `the peer ended the TLS session: `."""

_SAID = {
    "UNSUPPORTED_PROTOCOL": "it speaks only TLS versions that are too old; we take TLS 1.3, or 1.2 with minimum='1.2'",
    "VERSION_TOO_LOW": "it speaks only TLS versions that are too old; we take TLS 1.3, or 1.2 with minimum='1.2'",
    "NO_SHARED_CIPHER": "it offers no cipher that we take",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "it takes no signature that our certificate can make",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate, and we require one; give it one, or set clients='optional'",
    "NO_CERTIFICATE_RETURNED": "it showed no certificate, and we require one",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "a record is damaged, or was forged",
    "TOO_MANY_KEY_UPDATES": "it renews its keys, or sends tickets, again and again, and no data",
    "UNEXPECTED_EOF_WHILE_READING": "the stream ended in the middle of the handshake",
}


def explain(error: ssl.SSLError, *, server_side: bool) -> str:
    """Say why a TLS session failed, seen from this side. The result is a clause about the peer: `it …` or `its certificate …`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, server_side=server_side)
    reason = _reason(error)
    if reason in _PLAIN:
        here = "serve plain text here" if server_side else "connect with tcp://"
        return f"it does not speak TLS; {here}, or use tls:// on its side"
    alert = _ALERT.fullmatch(reason)
    if alert:
        name = alert[1].lower()
        return f"the peer ended the TLS session: {_ALERTS.get(name, f'alert {name}')}"
    return _SAID.get(reason, f"it broke the TLS protocol ({reason.lower().replace('_', ' ') or 'no reason given'})")


def cut_off(peer: str) -> ConnectionAbortedError:
    """The error of a stream that ended as TCP ends, and not as TLS does."""
    return ConnectionAbortedError(f"{peer} ended the stream without TLS's close_notify: it was cut, by a crash or by somebody in between")


def too_idle() -> ssl.SSLError:
    """The error of a peer that sends records and nothing in them; OpenSSL has no limit of its own on those."""
    error = ssl.SSLError()
    error.reason = "TOO_MANY_KEY_UPDATES"
    return error


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's name for it; Python does not know them all, and then has only the words."""
    words = _WORDS.search(str(error))
    return getattr(error, "reason", None) or (words[1].upper().replace(" ", "_") if words else "")


def _unverified(error: ssl.SSLCertVerificationError, *, server_side: bool) -> str:
    """Why a certificate was not believed. The codes are OpenSSL's X509_V_ERR_*."""
    code, message = error.verify_code, error.verify_message
    trust = "client_trust=… (--tls-client-trust)" if server_side else "trust=… (--tls-trust)"
    if code in (18, 19, 20, 21):
        return f"its certificate comes from an authority we do not trust ({message}); name that authority's file in {trust}"
    if code == 10:
        return "its certificate is expired; renew it there, or set the clock here"
    if code == 9:
        return "its certificate is not valid yet; set the clock here, or wait"
    if code in (62, 64):
        return f"its certificate is for another name ({message.rstrip('.')}); connect by that name, or say server_name=… (--tls-name)"
    if code == 26:
        return "its certificate is not made for this side (extended key usage)"
    if "Key Identifier" in message:
        return f"its certificate, or its authority's, is incomplete ({message}); issue it again with key identifiers (RFC 5280)"
    return f"its certificate cannot be verified: {message}"
