"""Ed25519 certificates for the TLS programs, made once per process.

Ed25519 because its signatures have one length: with ECDSA the sizes of packets would differ from run to run, and with them a trace.
What may never happen here: a certificate that a test cannot tell from another; each has its own common name.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID


class Ed25519Papers:
    """An authority, a certificate for `server.test` and one for a client, in a folder that goes with this object."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="parity-papers-")
        atexit.register(self._folder.cleanup)
        self._path = Path(self._folder.name)
        self._authority_key = Ed25519PrivateKey.generate()
        self._authority = self._certificate("parity authority", self._authority_key, authority=True)
        (self._path / "authority.pem").write_bytes(self._authority.public_bytes(serialization.Encoding.PEM))
        for name in ("server.test", "client.test"):
            self._issue(name)

    def server(self, *, ask_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._path / "server.test.pem")
        if ask_client:
            context.load_verify_locations(self._path / "authority.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, *, trusting: bool = True, certificate: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trusting:
            context.load_verify_locations(self._path / "authority.pem")
        if certificate:
            context.load_cert_chain(self._path / "client.test.pem")
        return context

    def _issue(self, name: str) -> None:
        key = Ed25519PrivateKey.generate()
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        chain = self._certificate(name, key).public_bytes(serialization.Encoding.PEM)
        (self._path / f"{name}.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form) + chain)

    def _certificate(self, name: str, key: Ed25519PrivateKey, *, authority: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "parity authority")])
        issuer_id = x509.SubjectKeyIdentifier.from_public_key(self._authority_key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(_uses(authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._authority_key, None)
        )


def _uses(authority: bool) -> x509.KeyUsage:
    """Python 3.13 checks strictly: an authority must say that it signs certificates."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@functools.cache
def papers() -> Ed25519Papers:
    return Ed25519Papers()
