"""What stands in a certificate, as values.

Owns: PeerCertificate from what OpenSSL verified, and the two dates of a certificate file of ours.
What may never happen here: a verdict. OpenSSL verifies; this only reads.
"""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from typing import Any

from ..context import PeerCertificate

_KINDS = {"IP Address": "IP"}
_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
}
_SEQUENCE, _UTC_TIME, _CONTEXT_0 = 0x30, 0x17, 0xA0


def peer_certificate(sslobj: ssl.SSLObject) -> PeerCertificate | None:
    """Return what the peer proved in this handshake; None when it showed no certificate, or was not asked to prove one."""
    der = sslobj.getpeercert(binary_form=True)
    found: dict[str, Any] = sslobj.getpeercert() or {}
    if der is None or not found:
        return None
    return PeerCertificate(
        subject=_printable(found.get("subject", ())),
        issuer=_printable(found.get("issuer", ())),
        names=tuple(f"{_KINDS.get(kind, kind)}:{value}" for kind, value in found.get("subjectAltName", ())),
        serial=str(found.get("serialNumber", "")).lower(),
        not_before=float(ssl.cert_time_to_seconds(found["notBefore"])),
        not_after=float(ssl.cert_time_to_seconds(found["notAfter"])),
        sha256=hashlib.sha256(der).hexdigest(),
    )


def _printable(name: Any) -> str:
    return ", ".join(f"{_SHORT.get(key, key)}={value}" for parts in name for key, value in parts)


def validity(der: bytes) -> tuple[float, float]:
    """Return from when until when a certificate is valid, in seconds since 1970 (RFC 5280, 4.1.2.5).

    Raises: ValueError when that cannot be read.
    """
    try:
        tag, inside, _ = _element(_element(der)[1])  # Certificate ▸ TBSCertificate
        if tag != _SEQUENCE:
            raise ValueError("expected a certificate")
        tag, _, after = _element(inside)
        if tag == _CONTEXT_0:  # the version, which the first ones did not have
            _, _, after = _element(after)
        for _ in range(2):  # the serial number before; now the algorithm and the issuer
            _, _, after = _element(after)
        dates = _element(after)[1]
        first, begins, rest = _element(dates)
        second, ends, _ = _element(rest)
        return _moment(first, begins), _moment(second, ends)
    except IndexError as error:
        raise ValueError("expected a certificate, and it ends early") from error


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Split one DER element off: its tag, what is in it, and what comes after."""
    size, at = data[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(data[2:at])
    return data[0], data[at : at + size], data[at + size :]


def _moment(tag: int, text: bytes) -> float:
    """UTCTime has two digits for the year: from 50 on they mean the last century."""
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
