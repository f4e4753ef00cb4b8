"""Handshakes that are wrong in one thing each: the alert that RFC 8446 has for it leaves, and nothing of ours is touched.

In the clear: a ClientHello made here, byte by byte. Behind the first keys: tlslite-ng as a client that lies in one message.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.papers import papers
from tests.net.tlsbench import Bench

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports asyncore, where there is one
    from tlslite.constants import AlertDescription, ContentType
    from tlslite.errors import TLSRemoteAlert
    from tlslite.handshakesettings import HandshakeSettings
    from tlslite.messages import ApplicationData, CertificateVerify, Finished, KeyUpdate, Message
    from tlslite.tlsconnection import TLSConnection
    from tlslite.utils.keyfactory import parsePEMKey
    from tlslite.x509 import X509
    from tlslite.x509certchain import X509CertChain

(
    UNEXPECTED_MESSAGE,
    BAD_RECORD_MAC,
    RECORD_OVERFLOW,
    HANDSHAKE_FAILURE,
    CERTIFICATE_EXPIRED,
    ILLEGAL_PARAMETER,
    UNKNOWN_CA,
    DECODE_ERROR,
    DECRYPT_ERROR,
    PROTOCOL_VERSION,
    MISSING_EXTENSION,
    UNRECOGNIZED_NAME,
    CERTIFICATE_REQUIRED,
    NO_APPLICATION_PROTOCOL,
) = (10, 20, 22, 40, 45, 47, 48, 50, 51, 70, 109, 112, 116, 120)

SERVER_NAME, MAX_FRAGMENT, GROUPS, SIGNATURES, ALPN, PRE_SHARED_KEY, VERSIONS, PSK_MODES, KEY_SHARE = 0, 1, 10, 13, 16, 41, 43, 45, 51
X25519, P256 = b"\x00\x1d", b"\x00\x17"


def vector(width: int, *parts: bytes) -> bytes:
    """What TLS writes as `<…>`: a length of that width, then the parts."""
    whole = b"".join(parts)
    return len(whole).to_bytes(width) + whole


def share(group: bytes, key: bytes) -> bytes:
    return group + vector(2, key)


POINT = bytes.fromhex(  # the generator of P-256, which is a public key as good as any
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


@dataclasses.dataclass(frozen=True)
class Hello:
    """A ClientHello that is right in everything; `dataclasses.replace` makes it wrong."""

    version: bytes = b"\x03\x03"
    random: bytes = bytes(range(32))
    session: bytes = vector(1, bytes(32))
    ciphers: bytes = vector(2, b"\x13\x01\x13\x02\x13\x03")
    compressions: bytes = vector(1, b"\x00")
    extensions: tuple[tuple[int, bytes], ...] = (
        (SERVER_NAME, vector(2, b"\x00" + vector(2, b"localhost"))),
        (GROUPS, vector(2, X25519, P256)),
        (SIGNATURES, vector(2, b"\x04\x03\x08\x04\x08\x07")),
        (ALPN, vector(2, vector(1, b"holdfast/1"))),
        (VERSIONS, vector(1, b"\x03\x04")),
        (PSK_MODES, vector(1, b"\x01")),
        (KEY_SHARE, vector(2, share(X25519, b"\x09" + bytes(31)))),
    )
    extensions_bytes: bytes | None = None
    after: bytes = b""

    def message(self) -> bytes:
        listed = vector(2, *(kind.to_bytes(2) + vector(2, content) for kind, content in self.extensions))
        extensions = listed if self.extensions_bytes is None else self.extensions_bytes
        body = self.version + self.random + self.session + self.ciphers + self.compressions + extensions + self.after
        return b"\x01" + vector(3, body)

    def having(self, kind: int, content: bytes) -> Hello:
        """With another content of that extension, or with one more."""
        changed = tuple((each, content if each == kind else old) for each, old in self.extensions)
        return dataclasses.replace(self, extensions=changed if changed != self.extensions else (*changed, (kind, content)))

    def without(self, *kinds: int) -> Hello:
        return dataclasses.replace(self, extensions=tuple(each for each in self.extensions if each[0] not in kinds))


GOOD = Hello()


def but(**changes: Any) -> Hello:
    return dataclasses.replace(GOOD, **changes)


def record(message: bytes, kind: int = 0x16, version: bytes = b"\x03\x01") -> bytes:
    return bytes((kind,)) + version + vector(2, message)


MESSAGE = GOOD.message()
BODY = MESSAGE[4:]
PSK = vector(2, vector(2, b"ticket") + bytes(4)) + vector(2, vector(1, bytes(32)))

HELLOS: dict[str, tuple[Hello | bytes, int | tuple[int, ...]]] = {
    # versions
    "TLS 1.2 and no newer": (GOOD.without(VERSIONS), PROTOCOL_VERSION),
    "SSL 3.0": (but(version=b"\x03\x00").without(VERSIONS), (PROTOCOL_VERSION, HANDSHAKE_FAILURE)),
    "only TLS 1.1 among its versions": (GOOD.having(VERSIONS, vector(1, b"\x03\x02")), PROTOCOL_VERSION),
    "only a version of the future": (GOOD.having(VERSIONS, vector(1, b"\x03\x09")), PROTOCOL_VERSION),
    "an empty list of versions": (GOOD.having(VERSIONS, vector(1)), (DECODE_ERROR, PROTOCOL_VERSION)),
    "half a version": (GOOD.having(VERSIONS, vector(1, b"\x03")), (DECODE_ERROR, PROTOCOL_VERSION)),
    # fields
    "no cipher suites": (but(ciphers=vector(2)), (DECODE_ERROR, ILLEGAL_PARAMETER)),
    "half a cipher suite": (but(ciphers=vector(2, b"\x13\x01\x13")), (DECODE_ERROR, ILLEGAL_PARAMETER)),
    "only cipher suites nobody knows": (but(ciphers=vector(2, b"\x5a\x5b")), HANDSHAKE_FAILURE),
    "only cipher suites of TLS 1.2": (but(ciphers=vector(2, b"\xc0\x2b")), HANDSHAKE_FAILURE),
    "no compression methods": (but(compressions=vector(1)), (DECODE_ERROR, ILLEGAL_PARAMETER)),
    "compression and nothing else": (but(compressions=vector(1, b"\x01")), (ILLEGAL_PARAMETER, DECODE_ERROR)),
    "compression offered too": (but(compressions=vector(1, b"\x01\x00")), ILLEGAL_PARAMETER),
    "a session id of 33 bytes": (but(session=vector(1, bytes(33))), (DECODE_ERROR, ILLEGAL_PARAMETER)),
    "bytes after the extensions": (but(after=b"more"), DECODE_ERROR),
    "extensions that end early": (but(extensions_bytes=vector(2, b"\x00\x0a\x00\x04\x00\x02")), DECODE_ERROR),
    "extensions longer than the message": (but(extensions_bytes=b"\x01\x00\x00\x0a"), DECODE_ERROR),
    "a message that ends in its random": (b"\x01" + vector(3, BODY[:20]), DECODE_ERROR),
    "a message that ends in its cipher suites": (b"\x01" + vector(3, BODY[:70]), DECODE_ERROR),
    "an empty message": (b"\x01\x00\x00\x00", DECODE_ERROR),
    # extensions
    "an extension twice": (but(extensions=(*GOOD.extensions, (PSK_MODES, vector(1, b"\x01")))), ILLEGAL_PARAMETER),
    "no groups": (GOOD.without(GROUPS), MISSING_EXTENSION),
    "no key share": (GOOD.without(KEY_SHARE), MISSING_EXTENSION),
    "no signature algorithms": (GOOD.without(SIGNATURES), MISSING_EXTENSION),
    "an empty list of groups": (GOOD.having(GROUPS, vector(2)), DECODE_ERROR),
    "half a group": (GOOD.having(GROUPS, vector(2, b"\x00\x1d\x00")), DECODE_ERROR),
    "only groups nobody knows": (GOOD.having(GROUPS, vector(2, b"\x5a\x5b")).having(KEY_SHARE, vector(2)), HANDSHAKE_FAILURE),
    "an empty list of signature algorithms": (GOOD.having(SIGNATURES, vector(2)), DECODE_ERROR),
    "half a signature algorithm": (GOOD.having(SIGNATURES, vector(2, b"\x04\x03\x08")), DECODE_ERROR),
    "only signature algorithms of another kind": (GOOD.having(SIGNATURES, vector(2, b"\x08\x04")), HANDSHAKE_FAILURE),
    "a key share of 31 bytes": (GOOD.having(KEY_SHARE, vector(2, share(X25519, bytes(31)))), ILLEGAL_PARAMETER),
    "an empty key share": (GOOD.having(KEY_SHARE, vector(2, share(X25519, b""))), (DECODE_ERROR, ILLEGAL_PARAMETER)),
    "a key share that ends early": (GOOD.having(KEY_SHARE, vector(2, X25519 + b"\x00\x20\x01")), DECODE_ERROR),
    "a key share for a group it does not name": (
        GOOD.having(GROUPS, vector(2, P256)).having(KEY_SHARE, vector(2, share(X25519, bytes(31) + b"\x09"))),
        ILLEGAL_PARAMETER,
    ),
    "a point that is not on its curve": (GOOD.having(KEY_SHARE, vector(2, share(P256, POINT[:-1] + b"\x00"))), ILLEGAL_PARAMETER),
    "a compressed point": (GOOD.having(KEY_SHARE, vector(2, share(P256, b"\x03" + POINT[1:33]))), ILLEGAL_PARAMETER),
    "a server name with a zero in it": (
        GOOD.having(SERVER_NAME, vector(2, b"\x00" + vector(2, b"local\x00host"))),
        (DECODE_ERROR, UNRECOGNIZED_NAME, ILLEGAL_PARAMETER),
    ),
    "a fragment length that does not exist": (GOOD.having(MAX_FRAGMENT, b"\x09"), ILLEGAL_PARAMETER),
    "an empty list of key exchange modes": (GOOD.having(PSK_MODES, vector(1)), DECODE_ERROR),
    "a pre-shared key that is not the last extension": (
        but(extensions=((PRE_SHARED_KEY, PSK), *GOOD.extensions)),
        ILLEGAL_PARAMETER,
    ),
    "a pre-shared key without its modes": (GOOD.without(PSK_MODES).having(PRE_SHARED_KEY, PSK), MISSING_EXTENSION),
    # protocols
    "an empty list of protocols": (GOOD.having(ALPN, vector(2)), (DECODE_ERROR, NO_APPLICATION_PROTOCOL)),
    "a protocol without a name": (GOOD.having(ALPN, vector(2, vector(1))), (DECODE_ERROR, NO_APPLICATION_PROTOCOL)),
    "protocols that end early": (GOOD.having(ALPN, b"\x00\x20\x0aholdfast"), DECODE_ERROR),
    "another protocol": (GOOD.having(ALPN, vector(2, vector(1, b"h2"))), NO_APPLICATION_PROTOCOL),
    "no protocol": (GOOD.without(ALPN), NO_APPLICATION_PROTOCOL),
    "a hello of 16 KiB": (GOOD.having(21, bytes(16300)), ILLEGAL_PARAMETER),
}


def alert_to(data: bytes) -> tuple[Bench, int | None]:
    bench = Bench()
    bench.deliver(data)
    return bench, bench.alert()


def expect(bench: Bench, alert: int | None, allowed: int | tuple[int, ...]) -> None:
    assert alert in (allowed if isinstance(allowed, tuple) else (allowed,)), f"alert {alert}: {bench.asked.told}"
    assert bench.below.calls == ["close"]
    assert bench.receiver.calls == []
    assert bench.asked.told[-1].startswith("refused: ")
    bench.lose()
    assert sum(told.startswith("refused") for told in bench.asked.told) == 1


def test_the_hello_that_the_others_differ_from_is_good() -> None:
    bench, alert = alert_to(record(MESSAGE))
    assert alert is None
    assert bench.below.calls == []
    assert bench.below.out.startswith(b"\x16\x03\x03"), "a ServerHello"


@pytest.mark.parametrize("case", HELLOS)
def test_a_hello_that_is_wrong_gets_its_alert(case: str) -> None:
    hello, allowed = HELLOS[case]
    message = hello.message() if isinstance(hello, Hello) else hello
    parts = [message[n : n + 16384] for n in range(0, len(message), 16384)]
    bench, alert = alert_to(b"".join(map(record, parts)))
    expect(bench, alert, allowed)


RECORDS: dict[str, tuple[bytes, int | tuple[int, ...]]] = {
    "application data": (record(b"hello", 0x17, b"\x03\x03"), UNEXPECTED_MESSAGE),
    "a change of cipher": (record(b"\x01", 0x14, b"\x03\x03"), UNEXPECTED_MESSAGE),
    "a ServerHello": (record(b"\x02" + MESSAGE[1:]), UNEXPECTED_MESSAGE),
    "a Finished": (record(b"\x14" + vector(3, bytes(32))), UNEXPECTED_MESSAGE),
    "a message of no known type": (record(b"\x63" + vector(3, bytes(8))), UNEXPECTED_MESSAGE),
    "a record of 2**14 + 1 bytes": (record(MESSAGE + bytes(16385 - len(MESSAGE))), (RECORD_OVERFLOW, UNEXPECTED_MESSAGE)),
    "a record whose length cannot be": (b"\x16\x03\x01\xff\xff" + MESSAGE, RECORD_OVERFLOW),
    "two hellos in one record": (record(MESSAGE * 2), UNEXPECTED_MESSAGE),
    "an alert in the middle of a hello": (record(MESSAGE[:50]) + record(b"\x01\x5a", 0x15), (UNEXPECTED_MESSAGE, DECODE_ERROR)),
    "application data in the middle of a hello": (record(MESSAGE[:50]) + record(b"x", 0x17), UNEXPECTED_MESSAGE),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_that_is_wrong_gets_its_alert(case: str) -> None:
    data, allowed = RECORDS[case]
    bench, alert = alert_to(data)
    expect(bench, alert, allowed)


def test_a_first_record_that_is_an_alert_ends_it() -> None:
    bench, _ = alert_to(record(b"\x02\x28", 0x15))
    assert bench.below.calls == ["close"]
    assert bench.asked.told[-1].startswith("refused: ")


# ------------------------------------------------------------------------------------------------------------ behind the first keys


class Pipe:
    """What tlslite-ng takes for a socket: both directions are memory, and reading asks our side."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.waiting = bytearray()

    def send(self, data: bytes) -> int:
        self.bench.deliver(bytes(data))
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def recv(self, size: int) -> bytes:
        self.waiting += self.bench.taken()
        data, self.waiting = bytes(self.waiting[:size]), self.waiting[size:]
        return data

    def close(self) -> None:
        pass


class Liar(TLSConnection):  # type: ignore[misc] # tlslite-ng has no types
    """A client that changes, adds or leaves out one message."""

    def __init__(self, bench: Bench, lie: Callable[[Any], list[Any] | None]) -> None:
        super().__init__(Pipe(bench))
        self.lie = lie

    def _sendMsg(self, msg: Any, *args: Any, **named: Any) -> Iterator[Any]:
        instead = self.lie(msg)
        for each in [msg] if instead is None else instead:
            yield from super()._sendMsg(each, *args, **named)


def keep(message: Any) -> None:
    """No lie."""


def finished(change: Callable[[bytes], bytes]) -> Callable[[Any], list[Any] | None]:
    def lie(message: Any) -> list[Any] | None:
        if isinstance(message, Finished):
            message.verify_data = bytearray(change(bytes(message.verify_data)))
        return None

    return lie


def before_finished(extra: Callable[[], Any]) -> Callable[[Any], list[Any] | None]:
    return lambda message: [extra(), message] if isinstance(message, Finished) else None


def handshake_message(data: bytes) -> Any:
    return Message(ContentType.handshake, bytearray(data))


def spoiled_signature(message: Any) -> None:
    if isinstance(message, CertificateVerify):
        message.signature = bytearray(message.signature)
        message.signature[-1] ^= 1


LIES: dict[str, tuple[Callable[[Any], list[Any] | None], int | tuple[int, ...]]] = {
    "a Finished that does not fit": (finished(lambda data: bytes(len(data))), DECRYPT_ERROR),
    "a Finished that is too short": (finished(lambda data: data[:-1]), (DECODE_ERROR, DECRYPT_ERROR)),
    "a Finished that is too long": (finished(lambda data: data + b"x"), (DECODE_ERROR, DECRYPT_ERROR)),
    "data before the Finished": (before_finished(lambda: ApplicationData().create(bytearray(b"early"))), UNEXPECTED_MESSAGE),
    "new keys before the Finished": (before_finished(lambda: KeyUpdate().create(0)), UNEXPECTED_MESSAGE),
    "a message of no known type": (before_finished(lambda: handshake_message(b"\x63\x00\x00\x00")), UNEXPECTED_MESSAGE),
    "a second hello": (before_finished(lambda: handshake_message(MESSAGE)), UNEXPECTED_MESSAGE),
}


def lied_to(lie: Callable[[Any], list[Any] | None], *, chain: Any = None, key: Any = None, **config: Any) -> tuple[Bench, Liar]:
    bench = Bench(**config)
    return bench, lie_to(bench, lie, chain, key)


def lie_to(bench: Bench, lie: Callable[[Any], list[Any] | None], chain: Any = None, key: Any = None) -> Liar:
    liar = Liar(bench, lie)
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 4)
    settings.certificate_compression_send = []  # it compresses without being asked to
    liar.handshakeClientCert(chain, key, serverName="localhost", alpn=[bytearray(b"holdfast/1")], settings=settings)
    return liar


def assert_among(error: Any, allowed: int | tuple[int, ...]) -> None:
    assert int(error.description) in (allowed if isinstance(allowed, tuple) else (allowed,)), AlertDescription.toStr(error.description)


def test_the_client_that_the_others_differ_from_is_good() -> None:
    bench, liar = lied_to(keep)
    assert bench.receiver.calls == ["link_made"]
    liar.send(bytearray(b"hello"))
    assert bench.receiver.data == b"hello"


@pytest.mark.parametrize("case", LIES)
def test_a_lie_behind_the_first_keys_gets_its_alert(case: str) -> None:
    lie, allowed = LIES[case]
    bench = Bench()
    with pytest.raises(TLSRemoteAlert) as caught:
        lie_to(bench, lie).read(max=1)
    assert_among(caught.value, allowed)
    assert bench.receiver.calls == []
    assert bench.below.calls == ["close"]
    assert bench.asked.told[-1].startswith("refused: ")


def _certified(path: str) -> tuple[Any, Any]:
    text = Path(path).read_text()
    certificate = X509()
    certificate.parse(text[text.index("-----BEGIN CERTIFICATE") :])
    return X509CertChain([certificate]), parsePEMKey(text[: text.index("-----BEGIN CERTIFICATE")], private=True)


CERTIFICATES: dict[str, tuple[Callable[[], str | None], Callable[[Any], list[Any] | None], int | tuple[int, ...]]] = {
    "none": (lambda: None, keep, CERTIFICATE_REQUIRED),
    "one of a stranger": (lambda: papers().strange("client.example"), keep, UNKNOWN_CA),
    "an expired one": (lambda: papers().expired("client.example"), keep, CERTIFICATE_EXPIRED),
    "one without its key": (lambda: papers().issue("client.example"), spoiled_signature, DECRYPT_ERROR),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_client_certificate_that_is_wrong_gets_its_alert(case: str) -> None:
    make, lie, allowed = CERTIFICATES[case]
    path = make()
    chain, key = _certified(path) if path else (None, None)
    with pytest.raises(TLSRemoteAlert) as caught:
        _, liar = lied_to(lie, chain=chain, key=key, clients="required", client_trust=papers().ca)
        liar.read(max=1)
    assert_among(caught.value, allowed)


AFTERWARDS: dict[str, tuple[Callable[[], Any], int | tuple[int, ...]]] = {
    "a hello": (lambda: handshake_message(MESSAGE), UNEXPECTED_MESSAGE),
    "a message of no known type": (lambda: handshake_message(b"\x63\x00\x00\x00"), UNEXPECTED_MESSAGE),
    "new keys of no known kind": (lambda: handshake_message(b"\x18\x00\x00\x01\x07"), ILLEGAL_PARAMETER),
    "new keys without a word": (lambda: handshake_message(b"\x18\x00\x00\x00"), DECODE_ERROR),
    "a change of cipher under keys": (lambda: Message(ContentType.change_cipher_spec, bytearray(b"\x01")), UNEXPECTED_MESSAGE),
    "a record of no known type": (lambda: Message(99, bytearray(b"x")), UNEXPECTED_MESSAGE),
}


@pytest.mark.parametrize("case", AFTERWARDS)
def test_what_may_not_come_after_the_handshake_gets_its_alert_and_is_a_loss(case: str) -> None:
    make, allowed = AFTERWARDS[case]
    bench, liar = lied_to(keep)
    with pytest.raises(TLSRemoteAlert) as caught:
        for _ in liar._sendMsg(make()):
            pass
        liar.read(max=1)
    assert_among(caught.value, allowed)
    assert bench.below.calls == ["close"]
    bench.lose()
    assert bench.receiver.calls == ["link_made", "link_lost"]
    assert isinstance(bench.receiver.error, ConnectionAbortedError)


def test_any_number_of_new_keys_is_followed() -> None:
    bench, liar = lied_to(keep)
    for n in range(20):
        for _ in liar.send_keyupdate_request(n % 2):
            pass
        liar.send(bytearray(b"%d," % n))
        bench.link.write(b"ok")
    assert bench.receiver.data == b"".join(b"%d," % n for n in range(20))
    assert liar.read(max=40, min=40) == b"ok" * 20
