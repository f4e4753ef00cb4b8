"""Values to bytes and back for one method: arguments, results, items of streams.

Arguments are a msgpack map by parameter name; a parameter that was left out is not sent, so a new one with a default is compatible both
ways. A method whose only required parameter is `bytes` sends those bytes alone ("raw"), and so do results and items that are `bytes`.
The typed decode is the validation: a caller decodes what it is about to send, a server what it was sent, both with the same machine, and
the error names the field by its path.

This is the hot path of every call: MethodCodec builds one closure per direction when the contract is read, with encoder, decoder and
argument class already bound, and shapes with few parameters get a closure of their own.

Never here: I/O, and no exception but InvalidArgument (what a caller gave), BadReply (what a function gave back) and, when a codec is
built, ConfigError. Every byte decoded may come from an enemy: nesting is bounded by the interpreter's recursion limit, counts by msgspec.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from ..errors import BadReply, ConfigError, InvalidArgument
from .contract import Contract, Param, type_text
from .validation import MISFITS, Fail, argument_error, binding_error, blame, explain

T = TypeVar("T")
Buffer = bytes | memoryview
Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]
EncodeArgs = Callable[[Args, Kwargs], bytes]
DecodeArgs = Callable[[Buffer, bool], Args]
Encode = Callable[[Any], bytes]
Decode = Callable[[Buffer, bool], Any]

_encode = msgspec.msgpack.Encoder().encode
_decode_plain = msgspec.msgpack.Decoder().decode
_astuple = msgspec.structs.astuple

_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, type(msgspec.UNSET))


class MethodCodec:
    """Encoders and decoders of one method, bound once.

    Attributes:
        encode_args(args, kwargs) -> bytes: bind as Python would, encode, validate. Raises: InvalidArgument.
        decode_args(body, raw) -> tuple: the values of `contract.params` in order, defaults filled in. Raises: InvalidArgument.
        encode_result(value) / decode_result(body, raw): Raises: BadReply.
        bytes_to_args(body), result_to_bytes(value), bytes_to_result(body): the same three for bodies that are not raw, on the way of nearly
            all calls: they save a function each, and raise MISFITS, which `argument_error` and `blame_result(error)` put into words. The
            first gives a Struct; `result_to_bytes` takes raw results too.
        encode_item_out(value) / decode_item_out(body, raw): the stream to the caller. Raises: BadReply.
        bytes_to_item_out(body): as bytes_to_result, for an item; what `decode_item_out` says of the same body are the words.
        encode_item_in(value) / decode_item_in(body, raw): the stream to the server. Raises: InvalidArgument.
        raw_args, raw_result, raw_item_out, raw_item_in: whether what the encoder gives is raw; `raw` of a decoder is the flag that came
            with the bytes, because the peer may know another version of the contract.
        fits: the digests of catalogues that the contract was compared with, and fitted; kept here for `BoundMethod`.

    Decoders may be given a memoryview: nothing they return points into it.
    Raises: ConfigError when the contract has a type that cannot travel.
    """

    __slots__ = (
        "blame_result",
        "bytes_to_args",
        "bytes_to_item_out",
        "bytes_to_result",
        "contract",
        "decode_args",
        "decode_item_in",
        "decode_item_out",
        "decode_result",
        "encode_args",
        "encode_item_in",
        "encode_item_out",
        "encode_result",
        "fits",
        "raw_args",
        "raw_item_in",
        "raw_item_out",
        "raw_result",
        "result_to_bytes",
    )

    encode_args: EncodeArgs
    decode_args: DecodeArgs
    encode_result: Encode
    decode_result: Decode
    encode_item_out: Encode
    decode_item_out: Decode
    encode_item_in: Encode
    decode_item_in: Decode

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.fits: dict[bytes, None] = {}
        self.raw_args = len(contract.params) == 1 and contract.params[0].required and contract.params[0].type is bytes
        self.raw_result = contract.result is bytes
        self.raw_item_out = contract.item_out is bytes
        self.raw_item_in = contract.item_in is bytes
        self._build_args()
        name = contract.name
        bad_result = blame(BadReply, f"the reply of {name} is not {type_text(contract.result)}")
        bad_item = blame(BadReply, f"an item of {name} is not {type_text(contract.item_out)}")
        bad_input = blame(InvalidArgument, f"{name}({contract.stream_param}[]): an item is not {type_text(contract.item_in)}")
        self.encode_result = _make_encoder(contract.result, bad_result)
        self.bytes_to_result = _reader_of(contract.result)
        self.decode_result = _make_decoder(contract.result, bad_result, self.bytes_to_result)
        self.result_to_bytes = self.encode_result if self.raw_result else _encode
        self.blame_result = bad_result
        self.encode_item_out = _make_encoder(contract.item_out, bad_item)
        self.bytes_to_item_out = _reader_of(contract.item_out)
        self.decode_item_out = _make_decoder(contract.item_out, bad_item, self.bytes_to_item_out)
        self.encode_item_in = _make_checked_encoder(contract.item_in, bad_input)
        self.decode_item_in = _make_decoder(contract.item_in, bad_input)

    def _build_args(self) -> None:
        contract = self.contract
        try:
            sent, received = _argument_structs(contract)
            decode = msgspec.msgpack.Decoder(received).decode
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"{contract.name}: the arguments cannot be described: {error}") from error
        if self.raw_args:
            self.encode_args = _make_raw_args_encoder(contract)
        elif contract.params:
            self.encode_args = _make_args_encoder(contract, sent, decode)
        else:
            self.encode_args = _make_no_args_encoder(contract)
        self.decode_args = _make_args_decoder(contract, decode)
        self.bytes_to_args = decode

    def take_stream(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs, Any]:
        """Part the stream from the arguments of a call: `(args, kwargs, stream)`, ready for `encode_args`.

        Raises: InvalidArgument when it is missing, given twice, or not something `async for` takes.
        """
        contract = self.contract
        name = contract.stream_param
        if name is None:
            return args, kwargs, None
        travelling = [p for p in contract.order if p != contract.context_param]
        place = travelling.index(name)
        if name in kwargs:
            stream = kwargs[name]
            kwargs = {k: v for k, v in kwargs.items() if k != name}
            if not contract.stream_keyword_only and len(args) > place:
                raise InvalidArgument(f"{contract.name}({name}): given twice, by place and by name; the signature is {contract.signature}")
        elif len(args) > place and not contract.stream_keyword_only:
            stream = args[place]
            args = (*args[:place], *args[place + 1 :])
        else:
            raise InvalidArgument(f"{contract.name}({name}): missing; it takes a stream, the signature is {contract.signature}")
        if not hasattr(stream, "__aiter__"):
            raise InvalidArgument(
                f"{contract.name}({name}): expected an async iterator of {type_text(contract.item_in)}, got {type(stream).__name__}"
            )
        return args, kwargs, stream


def plain_encode(value: object) -> bytes:
    """Encode a value for which there is no local type. Raises: InvalidArgument when it cannot be encoded."""
    try:
        return _encode(value)
    except MISFITS as error:
        raise InvalidArgument(f"a value of type {type(value).__name__} cannot be sent: {explain(error)}") from error


def plain_decode(body: Buffer) -> object:
    """Decode to plain data: dict, list, str, bytes, int, float, bool, None, datetime. Raises: BadReply."""
    try:
        return _decode_plain(body)
    except MISFITS as error:
        raise BadReply(f"the reply cannot be decoded: {explain(error)}") from error


def decode_as(type_: type[T]) -> Callable[[Buffer, bool], T]:
    """Return the decoder for `returns=type_`: `(body, raw) -> value`. It raises BadReply, `decode_as` itself ConfigError."""
    try:
        return cast(Callable[[Buffer, bool], T], _decoder_for(cast(Hashable, type_)))
    except TypeError as error:
        if "unhashable" not in str(error):
            raise ConfigError(f"returns={type_text(type_)} is not a type that can be decoded: {error}") from error
        return cast(Callable[[Buffer, bool], T], _decoder_for.__wrapped__(type_))


# --- arguments ---------------------------------------------------------------------------------------------------------------------------


def _argument_structs(contract: Contract) -> tuple[type[msgspec.Struct], type[msgspec.Struct]]:
    """Make two classes: what is sent (a parameter left out is UNSET and does not travel) and what is received (typed, defaults filled)."""
    name = re.sub(r"\W", "_", contract.name)
    sent = _defstruct(name, [(p, Any, msgspec.field(default=msgspec.UNSET)) if not p.required else (p, Any, None) for p in contract.params])
    received = _defstruct(name, [(p, p.type, None if p.required else _default_field(p.default)) for p in contract.params])
    return sent, received


def _defstruct(name: str, fields: list[tuple[Param, Any, Any]]) -> type[msgspec.Struct]:
    """Make a Struct whose constructor binds as the function would: keyword-only parameters come from a base."""
    by_place: list[Any] = []
    by_name: list[Any] = []
    for param, hint, default in fields:
        definition = (param.name, hint) if default is None else (param.name, hint, default)
        (by_name if param.keyword_only else by_place).append(definition)
    bases = (msgspec.defstruct(name, by_name, kw_only=True, gc=False),) if by_name else None
    return msgspec.defstruct(name, by_place, bases=bases, forbid_unknown_fields=True, gc=False)


def _default_field(default: Any) -> Any:
    """Give a parameter's default to msgspec; one that could be changed is copied for every call, unlike Python's own."""
    if default is ...:
        return msgspec.field(default=msgspec.UNSET)
    if isinstance(default, _IMMUTABLE):
        return msgspec.field(default=default)
    return msgspec.field(default_factory=lambda: copy.deepcopy(default))


def _make_args_encoder(contract: Contract, sent: type[msgspec.Struct], check: Callable[[bytes], object]) -> EncodeArgs:
    """Return bind + encode + validate. The common shapes avoid the general call: it costs as much as the encoding."""
    encode = _encode
    by_place = [p for p in contract.params if not p.keyword_only]
    count = len(by_place) if len(by_place) == len(contract.params) else -1
    make = cast(Callable[..., Any], sent)

    def encode_any(args: Args, kwargs: Kwargs) -> bytes:
        try:
            arguments = make(*args, **kwargs)
        except TypeError as error:
            raise binding_error(contract, args, kwargs) from error
        try:
            body = encode(arguments)
            check(body)
        except MISFITS as error:
            raise _encoding_error(contract, arguments, error) from error
        return body

    def encode_one(args: Args, kwargs: Kwargs) -> bytes:
        if kwargs or len(args) != 1:
            return encode_any(args, kwargs)
        try:
            body = encode(make(args[0]))
            check(body)
        except MISFITS as error:
            raise _encoding_error(contract, make(args[0]), error) from error
        return body

    def encode_two(args: Args, kwargs: Kwargs) -> bytes:
        if kwargs or len(args) != 2:
            return encode_any(args, kwargs)
        try:
            body = encode(make(args[0], args[1]))
            check(body)
        except MISFITS as error:
            raise _encoding_error(contract, make(*args), error) from error
        return body

    return encode_one if count == 1 else encode_two if count == 2 else encode_any


def _make_no_args_encoder(contract: Contract) -> EncodeArgs:
    empty = _encode({})

    def encode_nothing(args: Args, kwargs: Kwargs) -> bytes:
        if args or kwargs:
            raise binding_error(contract, args, kwargs)
        return empty

    return encode_nothing


def _make_raw_args_encoder(contract: Contract) -> EncodeArgs:
    name = contract.params[0].name
    wanted = {name}

    def encode_raw(args: Args, kwargs: Kwargs) -> bytes:
        if len(args) == 1 and not kwargs:
            value = args[0]
        elif not args and kwargs.keys() == wanted:
            value = kwargs[name]
        else:
            raise binding_error(contract, args, kwargs)
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise InvalidArgument(f"{contract.name}({name}): expected bytes, got {type(value).__name__}")

    return encode_raw


def _make_args_decoder(contract: Contract, decode: Callable[[Buffer], Any]) -> DecodeArgs:
    astuple = _astuple
    from_raw = _make_raw_args_decoder(contract)

    def decode_args(body: Buffer, raw: bool) -> Args:
        if raw:
            return from_raw(body)
        try:
            return astuple(decode(body))
        except MISFITS as error:
            raise argument_error(contract, error) from error

    return decode_args


def _make_raw_args_decoder(contract: Contract) -> Callable[[Buffer], Args]:
    """Return the decoder for arguments that came raw: they are the one required parameter, the others take their defaults.

    A caller that knows an older version of the method, with that parameter only, still gets through.
    """
    required = [i for i, p in enumerate(contract.params) if p.required]
    if len(required) != 1 or contract.params[required[0]].type not in (bytes, bytearray):

        def refuse(body: Buffer) -> Args:
            raise InvalidArgument(f"{contract.name}(): got bare bytes, expected named arguments; the signature is {contract.signature}")

        return refuse
    place = required[0]
    kind = contract.params[place].type
    if len(contract.params) == 1:
        return lambda body: (kind(body),)
    defaults = [p.default for p in contract.params]

    def fill(body: Buffer) -> Args:
        values = copy.deepcopy(defaults)
        values[place] = kind(body)
        return tuple(values)

    return fill


def _encoding_error(contract: Contract, arguments: msgspec.Struct, error: Exception) -> InvalidArgument:
    """Name the argument that cannot be encoded: msgspec names a path when it decodes, not when it encodes."""
    if isinstance(error, msgspec.ValidationError):
        return argument_error(contract, error)
    for name in arguments.__struct_fields__:
        try:
            _encode([getattr(arguments, name)] if getattr(arguments, name) is not msgspec.UNSET else None)
        except MISFITS as found:
            return InvalidArgument(f"{contract.name}({name}): {explain(found)}")
    return argument_error(contract, error)


# --- results and items -------------------------------------------------------------------------------------------------------------------


def _make_encoder(hint: Any, fail: Fail) -> Encode:
    if hint is bytes:

        def encode_raw(value: Any) -> bytes:
            if type(value) is bytes:
                return value
            if isinstance(value, (bytes, bytearray, memoryview)):
                return bytes(value)
            raise fail(TypeError(f"expected bytes, got {type(value).__name__}"))

        return encode_raw
    encode = _encode

    def encode_value(value: Any) -> bytes:
        try:
            return encode(value)
        except MISFITS as error:
            raise fail(error) from error

    return encode_value


def _make_checked_encoder(hint: Any, fail: Fail) -> Encode:
    """Return an encoder that also reads back what it wrote: what a caller sends is validated before it leaves."""
    encode = _make_encoder(hint, fail)
    if hint is bytes or hint is Any or hint is None:
        return encode
    decode = _make_decoder(hint, fail)

    def encode_checked(value: Any) -> bytes:
        body = encode(value)
        decode(body, False)
        return body

    return encode_checked


def _reader_of(hint: Any) -> Callable[[Buffer], Any]:
    return msgspec.msgpack.Decoder(Any if hint is None else hint).decode


def _make_decoder(hint: Any, fail: Fail, reader: Callable[[Buffer], Any] | None = None) -> Decode:
    decode = reader if reader is not None else _reader_of(hint)
    from_raw = _raw_reader(hint)

    def decode_value(body: Buffer, raw: bool) -> Any:
        try:
            return from_raw(body) if raw else decode(body)
        except MISFITS as error:
            raise fail(error) from error

    return decode_value


def _raw_reader(hint: Any) -> Callable[[Buffer], Any]:
    """Return how a value that came raw becomes one of the type: bytes as they are, anything else is validated as bytes."""
    if hint is bytes or hint is Any:
        return bytes
    if hint is bytearray:
        return bytearray
    return lambda body: msgspec.convert(bytes(body), hint)


@lru_cache(maxsize=1024)
def _decoder_for(type_: Any) -> Decode:
    return _make_decoder(type_, blame(BadReply, f"the reply is not {type_text(type_)}"))
