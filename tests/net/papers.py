"""Certificates for tests, made once per process: an authority, what it issues, and the files they stand in."""

from __future__ import annotations

import datetime
import functools
import itertools
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from holdfast.facts import discard
from holdfast.net.trust import TlsConfig, TlsContexts

HOLDFAST = ("holdfast/1",)
SPIFFE = "spiffe://td.test/ns/prod/sa/payments"


class Papers:
    """An authority, and a folder with what it issued. Files keep their name when they are written again."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hf-papers-")
        self.folder = Path(self._folder.name)
        self.authority = trustme.CA()
        self._numbers = itertools.count(1)
        self.ca = str(self.folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        self.stranger = str(self.folder / "stranger.pem")
        self._strange = trustme.CA()
        self._strange.cert_pem.write_to_path(self.stranger)
        self.server = self.issue("127.0.0.1", "::1", "localhost", "place")
        self.client = self.spiffe(SPIFFE)

    def issue(self, *names: str, file: str = "", **how: Any) -> str:
        """A certificate with its key in one file; returns the file's path."""
        path = self.folder / (file or f"{next(self._numbers)}.pem")
        self.authority.issue_cert(*names, **how).private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)

    def strange(self, *names: str) -> str:
        """One of an authority that nobody here trusts."""
        path = self.folder / f"{next(self._numbers)}.pem"
        self._strange.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)

    def spiffe(self, uri: str) -> str:
        """A certificate as SPIFFE has it: one URI, no subject, an Ed25519 key."""
        path = self.folder / f"{next(self._numbers)}.pem"
        authority, now = self.authority._certificate, datetime.datetime.now(datetime.UTC)
        key = ed25519.Ed25519PrivateKey.generate()
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=90))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        certificate = builder.sign(self.authority._private_key, hashes.SHA256())
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form) + certificate.public_bytes(serialization.Encoding.PEM))
        return str(path)

    def expired(self, *names: str) -> str:
        return self.issue(*names, not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))

    def serving(self, **more: Any) -> TlsConfig:
        return TlsConfig(**{"certificate": self.server, **more})

    def calling(self, **more: Any) -> TlsConfig:
        return TlsConfig(**{"trust": self.ca, **more})

    def server_contexts(self, protocols: tuple[str, ...] = HOLDFAST, emit: Any = discard, **more: Any) -> TlsContexts:
        return TlsContexts(self.serving(**more), "server", protocols, emit, time.time)

    def client_contexts(self, protocols: tuple[str, ...] = HOLDFAST, emit: Any = discard, **more: Any) -> TlsContexts:
        return TlsContexts(self.calling(**more), "client", protocols, emit, time.time)

    def plain_server(self, *protocols: str) -> ssl.SSLContext:
        """A server's context that is not ours: Python's, for tests against something else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def plain_client(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


@functools.cache
def papers() -> Papers:
    return Papers()
