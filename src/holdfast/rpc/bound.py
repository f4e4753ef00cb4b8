"""What a client knows of a method before it calls it, and what travels beside the arguments.

Owns: a method compared with the server's catalogue (`BoundMethod`), the methods made by name (`Methods`), the object `bind` gives back, and
the bytes of trace and metadata. What may never happen here: I/O; a method whose retry class is unknown being called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from ..clock import Rng
from ..errors import DeadlineExceeded, InvalidArgument, MethodNotFound
from ..handler import MethodInfo
from ..wire.frames import RAW, pack_extra
from .catalogue import Catalogue
from .codec import MethodCodec
from .contract import Contract, contracts_of, service_name_of

METHODS_MAX = 4096
CONTRACTS_MAX = 256
FITS_MAX = 64
METADATA_MAX_BYTES = 2**16 - 1

T = TypeVar("T")


class BoundMethod:
    """A method as a client calls it: its codec, and the catalogue it was last compared with.

    Attributes:
        idempotent: what the server's catalogue says; False until it was compared.
        streams_out: whether it answers with a stream.
        uploads: whether it takes a stream and answers with one result.
        flags: of its CALL frames, when they have nothing beside their arguments.
    """

    __slots__ = ("codec", "compared_with", "flags", "idempotent", "info", "shape", "streams_out", "uploads", "wire_name")

    def __init__(self, contract: Contract, codec: MethodCodec | None = None) -> None:
        self.codec = codec if codec is not None else MethodCodec(contract)
        self.info = contract.info
        self.shape = contract.shape
        self.streams_out = contract.shape in ("server_stream", "duplex")
        self.uploads = contract.shape == "client_stream"
        self.flags = RAW if self.codec.raw_args else 0
        self.wire_name = contract.name.encode()
        self.compared_with: Catalogue | None = None
        self.idempotent = False

    def compare(self, catalogue: Catalogue) -> None:
        """Take the server's word on what may be retried. Raises: MethodNotFound; ConfigError naming both signatures."""
        entry = catalogue.find(self.info.name)
        if entry is None:
            raise no_method(catalogue, self.info.name)
        codec, digest = self.codec, catalogue.digest
        if digest not in codec.fits:  # many clients bind one contract to one service, whose nodes may be of two versions
            catalogue.check(codec.contract)
            if len(codec.fits) >= FITS_MAX:
                codec.fits.clear()
            codec.fits[digest] = None
        self.idempotent = entry.idempotent
        self.info = MethodInfo(self.info.name, self.shape, entry.idempotent)
        self.compared_with = catalogue


class Methods:
    """Methods called by their name: made once per catalogue, name and type, and no more than METHODS_MAX of them kept."""

    def __init__(self) -> None:
        self._made: dict[tuple[bytes, str, Any], BoundMethod] = {}

    def __len__(self) -> int:
        return len(self._made)

    def find(self, catalogue: Catalogue, name: str, returns: Any) -> BoundMethod:
        """Return the method of that name, with results of the type `returns`. Raises: MethodNotFound; ConfigError for a bad type."""
        key: tuple[bytes, str, Any] | None = (catalogue.digest, name, returns)
        try:
            found = self._made.get(key)  # type: ignore[arg-type]  # it is a tuple here
        except TypeError:  # a type that cannot be hashed
            key, found = None, None
        if found is None:
            entry = catalogue.find(name)
            if entry is None:
                raise no_method(catalogue, name)
            codec = _named.get(key) if key is not None else None
            if codec is None:
                codec = MethodCodec(entry.contract(returns))
            found = BoundMethod(codec.contract, codec)
            found.compared_with, found.idempotent = catalogue, entry.idempotent
            if key is not None:
                _keep(_named, key, codec)
                _keep(self._made, key, found)
        return found


_named: dict[tuple[bytes, str, Any], MethodCodec] = {}
"""What methods called by name need, the same for every client of servers with that catalogue: to make it takes most of a millisecond."""


def _keep(made: dict[tuple[bytes, str, Any], T], key: tuple[bytes, str, Any], value: T) -> None:
    if len(made) >= METHODS_MAX and key not in made:
        made.clear()
    made[key] = value


class Bound:
    """The methods of a contract, bound to a client."""


def bind_methods(
    kind: type[Any], service: str | None, catalogue: Catalogue | None, make_stub: Callable[[BoundMethod], Callable[..., Any]]
) -> Bound:
    """Return an object with a stub for each method of a contract; compared with the server's catalogue when that is known already.

    Raises: ConfigError, MethodNotFound.
    """
    bound = Bound()
    for codec in _codecs_of(cast("Hashable", kind), service if service is not None else service_name_of(kind)):
        contract = codec.contract
        method = BoundMethod(contract, codec)
        if catalogue is not None:
            method.compare(catalogue)
        setattr(bound, contract.name.rpartition(".")[2], make_stub(method))
    return bound


@lru_cache(maxsize=CONTRACTS_MAX)
def _codecs_of(kind: Any, service: str) -> tuple[MethodCodec, ...]:
    """What the methods of a contract need, the same for every client: to read the hints of each takes a quarter of a millisecond."""
    return tuple(MethodCodec(contract) for contract in contracts_of(kind, service))


def pack_beside(trace: bytes | None, metadata: Mapping[str, str] | None, rng: Rng) -> tuple[int, bytes] | None:
    """Give what travels beside the arguments: the trace of the call being answered, with a span of its own, and metadata.

    Raises: InvalidArgument for metadata that is not strings, or too large.
    """
    if trace is None and metadata is None:
        return None
    if trace is not None:
        trace = trace[:16] + rng.getrandbits(64).to_bytes(8) + trace[24:]
    packed = None
    if metadata is not None:
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise InvalidArgument(f"metadata {key!r}: {value!r} must be strings")
        packed = msgspec.msgpack.encode(dict(metadata))
        if len(packed) > METADATA_MAX_BYTES:
            raise InvalidArgument(f"metadata of {len(packed)} bytes; at most {METADATA_MAX_BYTES:,} travel")
    return pack_extra(trace, packed)


def no_method(catalogue: Catalogue, name: str) -> MethodNotFound:
    """Give the error for a method the server does not have, with the nearest names."""
    near = catalogue.suggest(name)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(e.name for e in catalogue.entries[:8]) or 'none'}"
    return MethodNotFound(f"the server has no method {name!r}; {hint}")


def deadline_of(now: float, deadline_s: float | None, inherited_at: float | None) -> float | None:
    """Give the moment a call's time is over: its own deadline, and never later than that of the call being answered; None for never.

    Raises: DeadlineExceeded when the inherited one has passed; InvalidArgument for a deadline that is none.
    """
    if inherited_at is not None and inherited_at <= now:
        raise DeadlineExceeded("the deadline of the call being answered has passed", executed="no")
    if deadline_s is None or deadline_s == math.inf:
        return inherited_at
    if not deadline_s > 0:
        raise InvalidArgument(f"deadline={deadline_s!r} must be above 0 seconds, or None for no deadline")
    deadline_at: float = now + deadline_s
    return deadline_at if inherited_at is None or deadline_at < inherited_at else inherited_at
