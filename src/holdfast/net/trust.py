"""Whom to trust, and what to show: TLS as it is configured, and the contexts made of it.

Owns: every `ssl.SSLContext` there is, their defended settings, reading certificate files anew when they change, and the sessions a client
remembers so that the next handshake is a short one.
What may never happen here: a context half made of old files and half of new ones; a reload that leaves a server without a certificate; a
password asked for on the terminal; a secret in a message.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..control.wheel import Timer, Wheel
from ..errors import ConfigError
from ..facts import CertificateExpiring, Emit, TlsReloaded, TlsReloadFailed
from .address import is_host
from .certificate import peer_certificate, validity

Clients = Literal["none", "optional", "required"]
Side = Literal["client", "server"]

SESSIONS_MAX = 256
LEAKS = sys.version_info < (3, 12, 8) or sys.version_info[:3] == (3, 13, 0)
"""Whether `SSLObject.session` leaks the session, about 7 KB, each time it is read (gh-116810; 3.11 is not mended any more)."""
LEAKED_MAX = 1000
"""So many sessions a client reads where that leaks: 7 MB. After that it resumes no more, which costs a millisecond for each connection."""
EXPIRES_SOON_S = 14 * 86400.0
TOLD_EVERY_S = 86400.0
CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 only what has forward secrecy and AEAD: no CBC, no RSA key exchange (RFC 9325, 4.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How a server or a client uses TLS. For a client that shows no certificate and trusts what the system trusts, `TlsConfig()` will do.

    Attributes:
        certificate: PEM file with our certificate and those between it and the authority, in that order. A server needs one.
        key: PEM file with its private key; empty when that is in the certificate's file.
        key_password: of an encrypted key.
        by_name: more certificates of a server, by the name clients ask for (SNI): `{"b.example.com": ("b.pem", "b.key")}`. A first
            label of `*` stands for any one. Whoever asks for another name, or none, gets `certificate`.
        trust: file or folder with the authorities a client believes; the system's when empty.
        clients: whether a server asks for the clients' certificates: `none`, `optional`, `required`.
        client_trust: file or folder with the authorities a server believes about clients.
        minimum: the oldest TLS version, `1.3` or `1.2`. 1.3: all clients of ours have it.
        server_name: the name a client expects in the server's certificate, when it is not the host it connects to.
        alpn: the protocols of a hosted server, or client, by preference; holdfast's own protocol has its own and ignores this.
        handshake_timeout_s: how long a handshake may take in all. 5 s: a slow phone needs one.
        reload_s: how often a server looks whether the files have changed, by their dates; 0 for never. 30 s: certificates are renewed weeks
            before they end, and a look costs microseconds.
    """

    certificate: str | os.PathLike[str] = ""
    key: str | os.PathLike[str] = ""
    key_password: str | None = field(default=None, repr=False)
    by_name: Mapping[str, tuple[str | os.PathLike[str], str | os.PathLike[str]]] = field(default_factory=dict)
    trust: str | os.PathLike[str] = ""
    clients: Clients = "none"
    client_trust: str | os.PathLike[str] = ""
    minimum: Literal["1.3", "1.2"] = "1.3"
    server_name: str = ""
    alpn: tuple[str, ...] = ()
    handshake_timeout_s: float = 5.0
    reload_s: float = 30.0

    def __post_init__(self) -> None:
        if self.clients not in ("none", "optional", "required"):
            raise ConfigError(f"clients={self.clients!r}: expected 'none', 'optional' or 'required'")
        if self.minimum not in ("1.3", "1.2"):
            raise ConfigError(f"minimum={self.minimum!r}: expected '1.3', or '1.2' for old clients; what is older is broken")
        if (self.clients != "none") != bool(self.client_trust):
            raise ConfigError("clients= and client_trust= belong together: who is asked for a certificate, and which authority to believe")
        if (self.key or self.by_name) and not self.certificate:
            raise ConfigError("key= or by_name= was given without certificate=; give the certificate's file too")
        if not self.handshake_timeout_s > 0:
            raise ConfigError(f"handshake_timeout_s={self.handshake_timeout_s!r} must be above 0 seconds")
        if not self.reload_s >= 0:
            raise ConfigError(f"reload_s={self.reload_s!r} must be 0 (never) or more seconds")
        if self.server_name and not is_host(self.server_name):
            raise ConfigError(f"server_name={self.server_name!r}: expected the name in the server's certificate, such as shop.example.com")
        if any(not each.isascii() or not 0 < len(each) < 256 for each in self.alpn):
            raise ConfigError(f"alpn={self.alpn!r}: expected names of 1 to 255 ASCII characters")

    def files(self) -> tuple[str, ...]:
        """Every file and folder this reads."""
        pairs = [(self.certificate, self.key), *self.by_name.values()]
        named = [os.fspath(path) for pair in pairs for path in pair]
        return tuple(path for path in (*named, os.fspath(self.trust), os.fspath(self.client_trust)) if path)


class TlsContexts:
    """The contexts of one server or client, and what replaces them. A handshake that has begun keeps the one it began with.

    Args:
        protocols: the application protocols (ALPN) to agree on one of.
        wall_s: the time of day, in seconds since 1970.
    Raises: ConfigError naming the file that cannot be used, and what to do.
    """

    def __init__(self, config: TlsConfig, side: Side, protocols: tuple[str, ...], emit: Emit, wall_s: Callable[[], float]) -> None:
        self.config = config
        self.protocols = protocols
        self._side: Side = side
        self._emit = emit
        self._wall_s = wall_s
        self._sessions: OrderedDict[tuple[str, str], tuple[ssl.SSLSession, float]] = OrderedDict()  # and when its certificate ends
        self._leaked = 0
        self._timer: Timer | None = None
        self._told_at = self._look_at = 0.0
        self._seen = _dates(config)
        self.current, self._ends_at = _make(config, side, protocols, wall_s())
        self._look_at_the_end()

    # ------------------------------------------------------------------------------------------------------------------ reload

    def reload(self) -> None:
        """Read every file again and use what is in them from the next handshake on. Connections that are open stay as they are.

        Raises: ConfigError; then the old ones stay in use, and a fact says so.
        """
        self._seen = _dates(self.config)
        try:
            made, ends_at = _make(self.config, self._side, self.protocols, self._wall_s())
        except ConfigError as error:
            self._emit(TlsReloadFailed(str(error)))
            raise
        self.current, self._ends_at = made, ends_at
        self._sessions.clear()  # they belong to the old context
        self._told_at = 0.0
        self._emit(TlsReloaded(os.fspath(self.config.certificate)))
        self._look_at_the_end()

    def refresh(self, now: float) -> None:
        """Reload if a file has another date, size or place than before, looking no more often than every `reload_s`.

        Failing is a fact, not an error. `now` is on the loop's clock.
        """
        if not self.config.reload_s or now < self._look_at:
            return
        self._look_at = now + self.config.reload_s
        if _dates(self.config) != self._seen:
            try:
                self.reload()
            except ConfigError:
                return  # told by reload
        self._look_at_the_end()

    def watch(self, wheel: Wheel) -> None:
        """Refresh every `reload_s`, until `close`. A client need not: it refreshes when it connects."""
        if self.config.reload_s:
            self._timer = wheel.at(wheel.now() + self.config.reload_s, lambda: self._look(wheel))

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, wheel: Wheel) -> None:
        self.watch(wheel)
        self.refresh(wheel.now())

    def _look_at_the_end(self) -> None:
        """Say, once a day, which certificates of ours end soon."""
        now = self._wall_s()
        if now - self._told_at < TOLD_EVERY_S:
            return
        for path, ends_at in self._ends_at.items():
            if ends_at - now < EXPIRES_SOON_S:
                self._told_at = now
                self._emit(CertificateExpiring(path, ends_at - now))

    # ---------------------------------------------------------------------------------------------------------------- sessions

    def remember(self, place: tuple[str, str], sslobj: ssl.SSLObject) -> None:
        """Keep the session of a connection for the next one to the same place, if the server gave one to come back with."""
        if LEAKS:
            if self._leaked >= LEAKED_MAX:
                return
            self._leaked += 1
        session = sslobj.session
        if session is None or not (session.has_ticket or sslobj.version() == "TLSv1.2") or sslobj.context is not self.current:
            return
        certificate = peer_certificate(sslobj)
        self._sessions[place] = session, 0.0 if certificate is None else certificate.not_after
        self._sessions.move_to_end(place)
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)

    def recall(self, place: tuple[str, str]) -> ssl.SSLSession | None:
        """Return a session to resume; it is forgotten, as each is for one use (RFC 8446, C.4). None when its certificate is expired."""
        session, ends_at = self._sessions.pop(place, (None, 0.0))
        return session if ends_at > self._wall_s() else None

    def has_ended(self, sslobj: ssl.SSLObject) -> bool:
        """Whether the peer's certificate is expired. A resumed session verifies nothing again, and goes on as often as it is resumed."""
        certificate = peer_certificate(sslobj)
        return certificate is not None and certificate.not_after <= self._wall_s()


# ---------------------------------------------------------------------------------------------------------------------- contexts


def _make(config: TlsConfig, side: Side, protocols: tuple[str, ...], now: float) -> tuple[ssl.SSLContext, dict[str, float]]:
    """Make what a side needs, and say when its certificates end. Raises: ConfigError."""
    ends_at: dict[str, float] = {}
    if side == "client":
        context = _client(config)
        if config.certificate:
            _show(context, config, config.certificate, config.key, now, ends_at)
    else:
        if not config.certificate:
            raise ConfigError("a server needs a certificate for tls://; give TlsConfig(certificate=…, key=…) or --tls-cert and --tls-key")
        context = _server(config)
        _show(context, config, config.certificate, config.key, now, ends_at)
        others: dict[str, ssl.SSLContext] = {}
        for name, (certificate, key) in config.by_name.items():
            other = others[name.lower()] = _server(config)
            _show(other, config, certificate, key, now, ends_at)
            if protocols:
                other.set_alpn_protocols(list(protocols))
        if others:
            context.sni_callback = _chooser(others)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context, ends_at


def _defended(context: ssl.SSLContext, config: TlsConfig) -> ssl.SSLContext:
    """What holds for both sides. 0-RTT is off by default, and stays so: what comes early can be replayed."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if config.minimum == "1.2" else ssl.TLSVersion.TLSv1_3
    context.set_ciphers(CIPHERS_1_2)  # says nothing about TLS 1.3, whose ciphers are all good
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # As Python has it by default from 3.13 on: what RFC 5280 forbids is refused, and an authority below the root may be trusted by itself.
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _client(config: TlsConfig) -> ssl.SSLContext:
    context = _defended(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), config)  # verifies certificates and names
    context.hostname_checks_common_name = False
    if config.trust:
        _believe(context, config.trust, "trust")
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _server(config: TlsConfig) -> ssl.SSLContext:
    context = _defended(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), config)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1  # each resumed session gets a new one; more would only cost
    if config.clients != "none":
        context.verify_mode = ssl.CERT_REQUIRED if config.clients == "required" else ssl.CERT_OPTIONAL
        _believe(context, config.client_trust, "client_trust")
    return context


def _chooser(others: dict[str, ssl.SSLContext]) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def choose(sslobj: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        wanted = (name or "").lower()
        found = others.get(wanted) or others.get(f"*.{wanted.partition('.')[2]}")
        if found is not None:
            sslobj.context = found

    return choose


# ------------------------------------------------------------------------------------------------------------------------- files


def _believe(context: ssl.SSLContext, path: str | os.PathLike[str], what: str) -> None:
    """Trust the authorities in a file, or in a folder prepared by `openssl rehash`. Raises: ConfigError."""
    if os.path.isdir(path):
        context.load_verify_locations(capath=path)
        return
    text = _read(path, what)
    try:
        context.load_verify_locations(cadata=text.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise ConfigError(f"{what}={os.fspath(path)!r} holds no certificate that can be read; it must be PEM: BEGIN CERTIFICATE") from error


def _show(
    context: ssl.SSLContext,
    config: TlsConfig,
    certificate: str | os.PathLike[str],
    key: str | os.PathLike[str],
    now: float,
    ends_at: dict[str, float],
) -> None:
    """Load a certificate and its key; note when it ends. Raises: ConfigError."""
    path, key_path = os.fspath(certificate), os.fspath(key or certificate)
    ends_at[path] = _end_of(path, _read(certificate, "certificate"), now)
    if b"PRIVATE KEY-----" not in _read(key_path, "key"):
        raise ConfigError(f"key={key_path!r} holds no private key; it must be PEM: BEGIN PRIVATE KEY")
    asked = False

    def password() -> str:
        nonlocal asked
        asked = True
        return config.key_password or ""

    try:
        context.load_cert_chain(path, key_path, password)
    except ssl.SSLError as error:
        if asked:
            how = "key_password= is not its password" if config.key_password else "give its password as key_password="
            raise ConfigError(f"key={key_path!r} is encrypted; {how}") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"key={key_path!r} is not the key of {path!r}; give the two that were made together") from None
        raise ConfigError(f"certificate={path!r} with key={key_path!r} cannot be used: {error.reason or error}") from error
    except OSError as error:
        raise ConfigError(f"certificate={path!r} with key={key_path!r} cannot be read: {error.strerror}") from error


def _end_of(path: str, text: bytes, now: float) -> float:
    """When the first certificate of a file ends. Raises: ConfigError when it has ended, or when there is none."""
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    first = text.partition(begin)[2].partition(end)[0]
    try:
        _, ends_at = validity(ssl.PEM_cert_to_DER_cert((begin + first + end).decode("ascii") + "\n"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"certificate={path!r} holds no certificate that can be read; it must be PEM: BEGIN CERTIFICATE") from error
    if ends_at <= now:
        raise ConfigError(f"certificate={path!r} expired {(now - ends_at) / 86400:.0f} days ago; renew it")
    return ends_at


def _read(path: str | os.PathLike[str], what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{what}={os.fspath(path)!r} cannot be read: {error.strerror}") from error


def _dates(config: TlsConfig) -> tuple[tuple[int, ...] | None, ...]:
    """What tells one state of the files from another, without reading them."""
    found: list[tuple[int, ...] | None] = []
    for path in config.files():
        try:
            seen = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((seen.st_mtime_ns, seen.st_ino, seen.st_size))
    return tuple(found)
