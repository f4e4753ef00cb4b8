"""What stands in certificates: of peers that OpenSSL verified, and the dates of our own."""

from __future__ import annotations

import datetime
import hashlib
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from holdfast.net.certificate import peer_certificate, validity
from tests.net.papers import SPIFFE, papers


class Verified:
    """An SSLObject after a handshake, as far as it is asked."""

    def __init__(self, der: bytes | None, found: dict[str, Any] | None) -> None:
        self.der, self.found = der, found

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self.der if binary_form else self.found


FOUND = {
    "subject": ((("countryName", "CN"),), (("commonName", "payments"), ("title", "x"))),
    "issuer": ((("organizationName", "Example"),),),
    "serialNumber": "0A1B",
    "notBefore": "Jan  1 00:00:00 2026 GMT",
    "notAfter": "Jan  1 00:00:01 1970 GMT",
    "subjectAltName": (("DNS", "a.example"), ("URI", SPIFFE), ("IP Address", "10.0.0.7"), ("email", "ops@example.com")),
}


def test_a_verified_certificate_becomes_values() -> None:
    found = peer_certificate(Verified(b"der", FOUND))  # type: ignore[arg-type]
    assert found is not None
    assert found.subject == "C=CN, CN=payments, title=x"
    assert found.issuer == "O=Example"
    assert found.names == ("DNS:a.example", f"URI:{SPIFFE}", "IP:10.0.0.7", "email:ops@example.com")
    assert found.serial == "0a1b"
    assert (found.not_before, found.not_after) == (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp(), 1.0)
    assert found.sha256 == hashlib.sha256(b"der").hexdigest()


@pytest.mark.parametrize(("der", "found"), [(None, None), (b"der", {}), (None, {})])
def test_none_is_given_where_nothing_was_verified(der: bytes | None, found: dict[str, Any] | None) -> None:
    assert peer_certificate(Verified(der, found)) is None  # type: ignore[arg-type]


def der_of(path: str) -> bytes:
    text = Path(path).read_text()
    begin = text.index("-----BEGIN CERTIFICATE")
    return ssl.PEM_cert_to_DER_cert(text[begin : text.index("-----END CERTIFICATE-----") + 25])


@pytest.mark.parametrize("which", ["server", "client", "ca"])
def test_the_dates_are_those_that_another_reader_finds(which: str) -> None:
    der = der_of(getattr(papers(), which))
    other = x509.load_der_x509_certificate(der)
    assert validity(der) == (other.not_valid_before_utc.timestamp(), other.not_valid_after_utc.timestamp())


def test_both_kinds_of_date_are_read() -> None:
    long, short = der_of(papers().server), der_of(papers().client)
    assert validity(long)[1] > 30_000_000_000, "a GeneralizedTime of the year 3000"
    assert abs(validity(short)[0] - time.time()) < 86400, "a UTCTime of today"


@given(st.binary(max_size=60), st.integers(0, 700))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int) -> None:
    der = bytearray(der_of(papers().server))
    der[at : at + len(noise)] = noise
    for data in (bytes(der), bytes(der[:at]), noise):
        try:
            validity(data)
        except ValueError:
            pass
