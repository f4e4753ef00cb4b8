"""The TLS configuration and its contexts: what is refused at start, what is defended, reloading, sessions."""

from __future__ import annotations

import os
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from holdfast.control.wheel import Wheel
from holdfast.errors import ConfigError
from holdfast.facts import CertificateExpiring, Fact, TlsReloaded, TlsReloadFailed
from holdfast.net import trust
from holdfast.net.trust import EXPIRES_SOON_S, SESSIONS_MAX, TlsConfig, TlsContexts
from tests.control.test_wheel import FakeLoop
from tests.net.papers import HOLDFAST, papers


def refused(**config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        TlsContexts(TlsConfig(**config), "server", HOLDFAST, lambda _: None, time.time)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"clients": "some"}, "clients='some': expected 'none', 'optional' or 'required'"),
        ({"minimum": "1.1"}, "expected '1.3', or '1.2'"),
        ({"clients": "required"}, "belong together"),
        ({"client_trust": "ca.pem"}, "belong together"),
        ({"key": "k.pem"}, "without certificate="),
        ({"handshake_timeout_s": 0.0}, "above 0 seconds"),
        ({"reload_s": -1.0}, "0 (never) or more"),
        ({"server_name": ".example"}, "server_name='.example': expected the name"),
        ({"server_name": "a\0b"}, "expected the name in the server's certificate"),
        ({"alpn": ("",)}, "1 to 255 ASCII"),
        ({}, "a server needs a certificate for tls://"),
        ({"certificate": "/nowhere/c.pem"}, "certificate='/nowhere/c.pem' cannot be read: No such file"),
    ],
)
def test_a_configuration_that_cannot_work_says_why(config: dict[str, Any], text: str) -> None:
    assert text in refused(**config)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    words, other = tmp_path / "words.pem", trustme.CA().issue_cert("localhost")
    words.write_text("no PEM at all")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(other.cert_chain_pems[0].bytes())
    key.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    assert f"certificate={str(words)!r} holds no certificate that can be read" in refused(certificate=words)
    assert f"key={str(certificate)!r} holds no private key" in refused(certificate=certificate)
    assert f"key={str(words)!r} holds no private key" in refused(certificate=certificate, key=words)
    assert f"key={str(key)!r} is not the key of {str(certificate)!r}" in refused(certificate=certificate, key=key)
    assert f"trust={str(words)!r} holds no certificate" in _refused_client(trust=words)
    assert "client_trust='/nowhere' cannot be read" in refused(certificate=papers().server, clients="required", client_trust="/nowhere")
    assert f"certificate={str(words)!r}" in refused(certificate=papers().server, by_name={"b": (words, "")})


def _refused_client(**config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        TlsContexts(TlsConfig(**config), "client", HOLDFAST, lambda _: None, time.time)
    return str(caught.value)


def test_a_certificate_that_has_expired_is_refused_at_start() -> None:
    assert "expired" in refused(certificate=papers().expired("localhost"))


def test_an_encrypted_key_needs_its_password_and_never_asks_the_terminal(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("localhost")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"open sesame")
        )
        + leaf.cert_chain_pems[0].bytes()
    )
    assert "is encrypted; give its password as key_password=" in refused(certificate=locked)
    wrong = refused(certificate=locked, key_password="sesame")
    assert "key_password= is not its password" in wrong
    assert "sesame" not in wrong
    config = TlsConfig(certificate=locked, key_password="open sesame")
    assert "open sesame" not in repr(config)
    TlsContexts(config, "server", HOLDFAST, lambda _: None, time.time)


# ------------------------------------------------------------------------------------------------------------ what is defended


@pytest.mark.parametrize("side", ["server", "client"])
def test_contexts_are_defended(side: Any) -> None:
    contexts = papers().server_contexts() if side == "server" else papers().client_contexts()
    context = contexts.current
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    if side == "client":
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert not context.hostname_checks_common_name
    else:
        assert context.verify_mode == ssl.CERT_NONE
        assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_tls_1_2_is_a_choice_and_then_has_forward_secrecy_and_aead_only() -> None:
    context = papers().server_contexts(minimum="1.2").current
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    old = [cipher for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert old
    assert all(cipher["aead"] and cipher["kea"] == "kx-ecdhe" for cipher in old)


@pytest.mark.parametrize(("clients", "mode"), [("optional", ssl.CERT_OPTIONAL), ("required", ssl.CERT_REQUIRED)])
def test_clients_are_asked_for_certificates_as_configured(clients: Any, mode: ssl.VerifyMode) -> None:
    context = papers().server_contexts(clients=clients, client_trust=papers().ca).current
    assert context.verify_mode == mode
    assert len(context.get_ca_certs()) == 1


def test_a_folder_of_authorities_will_do(tmp_path: Path) -> None:
    papers().client_contexts(trust=tmp_path)


# --------------------------------------------------------------------------------------------------------------------- reload


class Scene:
    """A server's contexts on files of their own, a clock, and what they told."""

    def __init__(self, tmp_path: Path, **config: Any) -> None:
        self.path = tmp_path / "c.pem"
        shutil.copy(papers().server, self.path)
        self.loop = FakeLoop()
        self.wall = time.time()
        self.facts: list[Fact] = []
        self.wheel = Wheel(self.loop.now, self.loop.call_at)
        self.contexts = TlsContexts(
            TlsConfig(certificate=self.path, **config), "server", HOLDFAST, self.facts.append, lambda: self.wall + self.loop.now()
        )

    def told(self, kind: type[Fact]) -> list[Fact]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def renew(self) -> None:
        """As a tool that renews does it: a new file takes the old one's place."""
        os.replace(papers().issue("localhost"), self.path)


def test_reload_makes_new_contexts_of_new_files(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    before = scene.contexts.current
    scene.renew()
    scene.contexts.reload()
    assert scene.contexts.current is not before
    assert scene.facts == [TlsReloaded(str(scene.path))]


def test_a_reload_that_fails_keeps_what_there_was_and_says_so(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    before = scene.contexts.current
    scene.path.write_text("half a file")
    with pytest.raises(ConfigError, match="holds no certificate"):
        scene.contexts.reload()
    assert scene.contexts.current is before
    (fact,) = scene.facts
    assert isinstance(fact, TlsReloadFailed)
    assert str(scene.path) in fact.reason


def _renew(scene: Scene) -> None:
    scene.renew()


def _break(scene: Scene) -> None:
    scene.path.write_text("half a file")


def _remove(scene: Scene) -> None:
    scene.path.unlink()


@pytest.mark.parametrize(("change", "fact"), [(_renew, TlsReloaded), (_break, TlsReloadFailed), (_remove, TlsReloadFailed)])
def test_files_that_change_are_read_again_when_somebody_looks(tmp_path: Path, change: Callable[[Scene], None], fact: type[Fact]) -> None:
    scene = Scene(tmp_path)
    scene.contexts.watch(scene.wheel)
    scene.loop.advance(500.0)
    assert scene.facts == [], "nothing has changed"
    change(scene)
    scene.loop.advance(531.0)
    assert len(scene.told(fact)) == len(scene.facts) == 1
    scene.loop.advance(900.0)
    assert len(scene.facts) == 1, "once per change"
    scene.contexts.close()
    change_back = papers().issue("localhost")
    os.replace(change_back, scene.path)
    scene.loop.advance(2000.0)
    assert len(scene.facts) == 1, "closed contexts look no more"


def test_reload_s_0_never_looks(tmp_path: Path) -> None:
    scene = Scene(tmp_path, reload_s=0)
    scene.contexts.watch(scene.wheel)
    scene.renew()
    scene.contexts.refresh(1e9)
    scene.loop.advance(9999.0)
    assert scene.facts == []


def test_a_certificate_that_ends_soon_is_told_at_start_and_once_a_day(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    ends_at = max(scene.contexts._ends_at.values())
    scene.wall = ends_at - EXPIRES_SOON_S - 1000.0
    scene.contexts.watch(scene.wheel)
    scene.loop.advance(800.0)
    assert scene.facts == []
    scene.loop.advance(1100.0)
    (fact,) = scene.told(CertificateExpiring)
    assert isinstance(fact, CertificateExpiring)
    assert fact.certificate == str(scene.path)
    assert 0 < fact.ends_in_s <= EXPIRES_SOON_S
    scene.loop.advance(50_000.0)
    assert len(scene.facts) == 1
    scene.loop.advance(90_000.0)
    assert len(scene.facts) == 2
    told: list[Fact] = []
    TlsContexts(scene.contexts.config, "server", HOLDFAST, told.append, lambda: ends_at - 1000.0)
    assert isinstance(told[0], CertificateExpiring)


# ------------------------------------------------------------------------------------------------------------------- sessions


class Session:
    has_ticket = True


class Finished:
    """An SSLObject as far as sessions are concerned."""

    def __init__(self, contexts: TlsContexts, *, ticket: bool = True, version: str = "TLSv1.3") -> None:
        self.context = contexts.current
        self.session = Session()
        self.session.has_ticket = ticket
        self._version = version

    def version(self) -> str:
        return self._version

    def getpeercert(self, binary_form: bool = False) -> Any:
        return b"der" if binary_form else {"notBefore": "Jan  1 00:00:00 2020 GMT", "notAfter": "Jan  1 00:00:00 2090 GMT"}


def test_a_session_is_remembered_for_its_place_and_used_once() -> None:
    contexts = papers().client_contexts()
    place = ("tls://a:1", "a")
    finished = Finished(contexts)
    contexts.remember(place, finished)  # type: ignore[arg-type]
    assert contexts.recall(("tls://a:1", "b")) is None
    assert contexts.recall(place) is finished.session  # type: ignore[comparison-overlap]
    assert contexts.recall(place) is None


def test_a_session_ends_with_the_certificate_that_it_began_with() -> None:
    """Resuming verifies nothing again, and each resumed session brings the ticket for the next one."""
    told_s = [0.0]
    contexts = TlsContexts(papers().calling(), "client", HOLDFAST, lambda _: None, lambda: told_s[0])
    finished, place = Finished(contexts), ("tls://a:1", "a")
    ends_at = float(ssl.cert_time_to_seconds("Jan  1 00:00:00 2090 GMT"))
    for told_s[0], usable in ((ends_at - 1.0, True), (ends_at, False)):
        contexts.remember(place, finished)  # type: ignore[arg-type]
        assert contexts.has_ended(finished) is not usable  # type: ignore[arg-type]
        assert (contexts.recall(place) is not None) is usable
        assert contexts.recall(place) is None


def test_what_cannot_be_resumed_is_not_remembered() -> None:
    contexts = papers().client_contexts()
    contexts.remember(("a", "a"), Finished(contexts, ticket=False))  # type: ignore[arg-type]
    contexts.remember(("b", "b"), Finished(papers().client_contexts()))  # type: ignore[arg-type]
    contexts.remember(("c", "c"), Finished(contexts, ticket=False, version="TLSv1.2"))  # type: ignore[arg-type]
    assert [contexts.recall((name, name)) is not None for name in "abc"] == [False, False, True]


@pytest.mark.parametrize("leaks", [True, False])
def test_where_looking_at_a_session_leaks_it_that_is_bounded(leaks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "LEAKS", leaks)
    contexts, place = papers().client_contexts(), ("tls://a:1", "a")
    for _ in range(trust.LEAKED_MAX):
        contexts.remember(place, Finished(contexts))  # type: ignore[arg-type]
    assert contexts.recall(place) is not None
    contexts.remember(place, Finished(contexts))  # type: ignore[arg-type]
    assert (contexts.recall(place) is None) is leaks


def test_remembered_sessions_are_bounded_and_gone_after_a_reload() -> None:
    contexts = papers().client_contexts()
    for n in range(SESSIONS_MAX + 10):
        contexts.remember((str(n), "x"), Finished(contexts))  # type: ignore[arg-type]
    assert len(contexts._sessions) == SESSIONS_MAX
    assert contexts.recall(("9", "x")) is None
    assert contexts.recall(("10", "x")) is not None
    contexts.reload()
    assert contexts.recall(("11", "x")) is None
