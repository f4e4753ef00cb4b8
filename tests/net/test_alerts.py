"""Every failure of TLS reads as something a person can act on, at both sides."""

from __future__ import annotations

import ssl

import pytest

from holdfast.net.alerts import cut_off, explain, too_idle


def error(reason: str) -> ssl.SSLError:
    made = ssl.SSLError(1, f"[SSL: {reason}] something (_ssl.c:1000)")
    made.reason = reason
    return made


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    made = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:1000)")
    made.verify_code, made.verify_message = code, message
    return made


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "it does not trust the authority that issued our certificate"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "it wants a certificate from us; give TlsConfig(certificate=…, key=…)"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "our certificate is expired"),
        ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "another protocol than ours (ALPN)"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "both sides need TLS 1.3, or minimum='1.2' on both"),
        ("TLSV1_ALERT_DECRYPT_ERROR", "alert decrypt_error"),
        ("TLSV1_UNRECOGNIZED_NAME", "it has no certificate for the name we asked for"),
        ("UNSUPPORTED_PROTOCOL", "it speaks only TLS versions that are too old"),
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it showed no certificate, and we require one"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS; connect with tcp://"),
        ("SOME_NEW_THING", "it broke the TLS protocol (some new thing)"),
        ("", "it broke the TLS protocol (something)"),
    ],
)
def test_a_reason_of_openssl_is_said_in_words(reason: str, text: str) -> None:
    assert text in explain(error(reason), server_side=False)


def test_a_reason_that_python_has_no_name_for_is_read_from_the_words() -> None:
    unnamed = ssl.SSLError(1, "[SSL] tlsv1 alert no application protocol (_ssl.c:1006)")
    assert explain(unnamed, server_side=False) == ("the peer ended the TLS session: it speaks TLS, and another protocol than ours (ALPN)")


def test_each_side_is_told_what_it_can_do_itself() -> None:
    assert "serve plain text here" in explain(error("HTTP_REQUEST"), server_side=True)
    assert "trust=… (--tls-trust)" in explain(unverified(20, "unable to get local issuer certificate"), server_side=False)
    assert "client_trust=… (--tls-client-trust)" in explain(unverified(19, "self-signed certificate in chain"), server_side=True)


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        (10, "certificate has expired", "its certificate is expired"),
        (9, "certificate is not yet valid", "not valid yet"),
        (
            62,
            "Hostname mismatch, certificate is not valid for 'x'.",
            "for another name (Hostname mismatch, certificate is not valid for 'x')",
        ),
        (64, "IP address mismatch, certificate is not valid for '10.0.0.1'.", "server_name=… (--tls-name)"),
        (26, "unsupported certificate purpose", "not made for this side"),
        (85, "Missing Authority Key Identifier", "issue it again with key identifiers"),
        (1, "unspecified certificate verification error", "cannot be verified: unspecified"),
    ],
)
def test_a_certificate_that_is_not_believed_is_explained(code: int, message: str, text: str) -> None:
    assert text in explain(unverified(code, message), server_side=False)


def test_our_own_errors_have_words() -> None:
    assert explain(too_idle(), server_side=True) == "it renews its keys, or sends tickets, again and again, and no data"
    assert str(cut_off("tls://a:1")).startswith("tls://a:1 ended the stream without TLS's close_notify")
