"""What a server says it can do: every method with its shape, its schemas and its signature, and a digest of all of it.

A client fetches the catalogue once per digest, before its first call: so it knows each call's retry class, can call methods for which it
has no types, and can compare its own contract with the server's before anything goes wrong. Pure data and comparison; who may see which
method is not decided here (`only` makes the part a peer may see).

Compatible means: what one side may send, the other side reads. From the side that sends to the side that reads,
- a required field or parameter the sender does not have is a mismatch, one with a default is not;
- a field the reader does not know is skipped, except that a caller may not *require* an argument (or a field of one) the server would drop;
- integers fit numbers, each alternative of the sender needs one at the reader, `{}` (Any) fits everything on either side.
Limits (`minimum`, `maxLength`, ...) and texts are not compared: values are checked when they travel.
"""

from __future__ import annotations

import difflib
import hashlib
import keyword
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from ..errors import ConfigError, ProtocolError
from ..handler import MethodInfo, Shape
from .contract import Contract, Param

Schema = dict[str, Any]

BYTES_SCHEMA: Mapping[str, str] = {"type": "string", "contentEncoding": "base64"}
"""How JSON Schema says bytes; on our wire they travel as they are."""

_REFERENCE = "#/components/{name}"
_REFERENCE_PREFIX = "#/components/"
_SUGGESTION_NAME_MAX = 100
_SUGGESTION_CANDIDATES_MAX = 64


class EntryParam(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parameter of a method: its name, JSON Schema, and how it is passed."""

    name: str
    schema: Schema
    required: bool = True
    keyword_only: bool = False


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One method of a server.

    Attributes:
        params: the parameters that travel as arguments; the stream is not among them.
        order: every parameter's name in order, with the stream.
        stream_param, stream_in: name and item schema of the stream going in; None when there is none.
        result: schema of the answer; None for server streams and duplex.
        item: schema of the items of the stream coming out; None when there is none.
        signature, doc: for people.
    """

    name: str
    shape: Shape = "unary"
    idempotent: bool = False
    params: tuple[EntryParam, ...] = ()
    order: tuple[str, ...] = ()
    stream_param: str | None = None
    stream_keyword_only: bool = False
    stream_in: Schema | None = None
    result: Schema | None = None
    item: Schema | None = None
    signature: str = ""
    doc: str = ""

    @property
    def info(self) -> MethodInfo:
        """The row without the schemas."""
        return MethodInfo(self.name, self.shape, self.idempotent)

    def contract(self, returns: Any = Any) -> Contract:
        """Give a contract for calling this method without its types: arguments go as they are, answers come as `returns`.

        Raises: ProtocolError when the server's names cannot be parameters.
        """
        self._check_names()
        streams_out = self.shape in ("server_stream", "duplex")
        answer = self.item if streams_out else self.result
        kind = bytes if returns is Any and answer == BYTES_SCHEMA else returns
        return Contract(
            name=self.name,
            shape=self.shape,
            idempotent=self.idempotent,
            params=tuple(Param(p.name, _local_type(p.schema), p.required, ..., p.keyword_only) for p in self.params),
            order=self.order,
            stream_param=self.stream_param,
            stream_keyword_only=self.stream_keyword_only,
            item_in=None if self.stream_in is None else _local_type(self.stream_in),
            item_out=kind if streams_out else None,
            result=None if streams_out else kind,
            signature=self.signature,
            doc=self.doc,
        )

    def _check_names(self) -> None:
        """Names that a server sent become names in our process: refuse what Python would not take."""
        names = [p.name for p in self.params] + ([] if self.stream_param is None else [self.stream_param])
        for name in names:
            if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
                raise ProtocolError(f"the server's catalogue gives {self.name} a parameter called {name[:40]!r}, which is no name")
        if len(frozenset(names)) < len(names) or sorted(names) != sorted(self.order):
            raise ProtocolError(f"the server's catalogue does not say in which order {self.name} takes its parameters")
        if (self.stream_param is not None) != (self.shape in ("client_stream", "duplex")) or (self.stream_in is None) != (
            self.stream_param is None
        ):
            raise ProtocolError(f"the server's catalogue says that {self.name} is {self.shape}, and describes another shape")


class Catalogue(msgspec.Struct, frozen=True, dict=True):
    """All methods of a server, in order of their names, and the schemas they share (by `#/components/NAME`)."""

    entries: tuple[Entry, ...] = ()
    components: dict[str, Schema] = {}

    @classmethod
    def of(cls, contracts: Iterable[Contract]) -> Catalogue:
        """Describe these contracts. The same contracts give the same bytes, in any order and any process."""
        ordered = sorted(contracts, key=lambda c: c.name)
        hints = [hint for contract in ordered for hint in _hints(contract)]
        schemas, components = msgspec.json.schema_components(hints, ref_template=_REFERENCE)
        remaining = iter([_repeatable(schema) for schema in schemas])
        entries = tuple(_entry(contract, remaining) for contract in ordered)
        return cls(entries, {name: _repeatable(schema) for name, schema in components.items()})

    @classmethod
    def decode(cls, body: bytes | memoryview) -> Catalogue:
        """Read a catalogue a server sent. Raises: ProtocolError when it is none."""
        try:
            found = _decode(body)
            _ = found.digest  # a schema may hold what can be read and not written: a map with keys that are no text
            return found
        except (ValueError, TypeError, RecursionError) as error:
            raise ProtocolError(
                f"the server's catalogue cannot be read ({error}); the server runs another version or is not one"
            ) from error

    def encode(self) -> bytes:
        """Give the catalogue's bytes: the same for the same content."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        return _encode(self)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that change when anything in the catalogue does."""
        return hashlib.blake2b(self._encoded, digest_size=16).digest()

    @cached_property
    def _by_name(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in self.entries}

    def find(self, name: str) -> Entry | None:
        """Return the method of that full name, or None."""
        return self._by_name.get(name)

    def only(self, visible: Callable[[str], bool]) -> Catalogue:
        """Return the catalogue a peer sees that may call only these methods; shared schemas nobody of them uses are left out."""
        entries = tuple(entry for entry in self.entries if visible(entry.name))
        return Catalogue(entries, _used_components(entries, self.components))

    def suggest(self, name: str) -> tuple[str, ...]:
        """Return at most three names near this one, nearest first. Bounded work: a peer can ask for any name, often."""
        if len(name) > _SUGGESTION_NAME_MAX:
            return ()
        alike = [entry.name for entry in self.entries if abs(len(entry.name) - len(name)) <= 8 + len(name) // 4]
        service = name.partition(".")[0]
        alike.sort(key=lambda candidate: candidate.partition(".")[0] != service)
        return tuple(difflib.get_close_matches(name, alike[:_SUGGESTION_CANDIDATES_MAX], n=3, cutoff=0.6))

    def check(self, contract: Contract) -> None:
        """Compare a caller's contract with this server's method.

        Raises: ConfigError when they do not fit, naming both signatures and the first thing that differs.
        """
        theirs = self.find(contract.name)
        if theirs is None:
            near = self.suggest(contract.name)
            hint = f"; the nearest it has is {' or '.join(near)}" if near else ""
            raise ConfigError(f"the server has no method {contract.name}, which the contract has as {contract.signature}{hint}")
        local = Catalogue.of([contract])
        try:
            problem = _entry_problem(local.entries[0], theirs, local.components, self.components)
        except RecursionError:
            problem = "the server's schema is nested too deeply to compare"
        except (TypeError, ValueError, AttributeError, LookupError) as error:  # the server's schema may be any data at all
            problem = f"the server's schema is not one that can be compared ({error})"
        if problem:
            raise ConfigError(
                f"{contract.name} differs: the contract has {contract.signature}, the server has {theirs.signature}:"
                f" {problem}; bring the two to one version (a new parameter or field needs a default)"
            )


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Catalogue).decode


def _repeatable(schema: Schema) -> Schema:
    """Leave out defaults that are containers: a set's order differs between processes, and the digest must not."""
    kept: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: _repeatable(part) for name, part in value.items()}
        elif key in ("anyOf", "prefixItems"):
            kept[key] = [_repeatable(part) for part in value]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            kept[key] = _repeatable(value)
        elif key != "default" or not value or not isinstance(value, (list, dict)):
            kept[key] = value
    return kept


def _local_type(schema: Schema) -> Any:
    return bytes if schema == BYTES_SCHEMA else Any


def _hints(contract: Contract) -> Iterator[Any]:
    """The types of a contract in the order in which `_entry` takes their schemas."""
    yield from (p.type for p in contract.params)
    if contract.stream_param is not None:
        yield contract.item_in
    yield contract.item_out if contract.shape in ("server_stream", "duplex") else contract.result


def _entry(contract: Contract, schemas: Iterator[Schema]) -> Entry:
    params = tuple(EntryParam(p.name, next(schemas), p.required, p.keyword_only) for p in contract.params)
    stream_in = next(schemas) if contract.stream_param is not None else None
    answer = next(schemas)
    streams_out = contract.shape in ("server_stream", "duplex")
    return Entry(
        name=contract.name,
        shape=contract.shape,
        idempotent=contract.idempotent,
        params=params,
        order=tuple(name for name in contract.order if name != contract.context_param),
        stream_param=contract.stream_param,
        stream_keyword_only=contract.stream_keyword_only,
        stream_in=stream_in,
        result=None if streams_out else answer,
        item=answer if streams_out else None,
        signature=contract.signature,
        doc=contract.doc,
    )


def _used_components(entries: Iterable[Entry], components: Mapping[str, Schema]) -> dict[str, Schema]:
    """Follow the references from these entries and keep what they reach, so that a hidden method's types stay hidden."""
    used: dict[str, Schema] = {}
    todo: list[Any] = [msgspec.to_builtins(entry) for entry in entries]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix(_REFERENCE_PREFIX)
            if name in components and name not in used:
                used[name] = components[name]
                todo.append(components[name])
            todo.extend(node.values())
        elif isinstance(node, (list, tuple)):
            todo.extend(node)
    return dict(sorted(used.items()))


# --- comparison --------------------------------------------------------------------------------------------------------------------------


def _entry_problem(ours: Entry, theirs: Entry, our_components: Mapping[str, Schema], their_components: Mapping[str, Schema]) -> str:
    """Say the first thing in which a caller's method and the server's do not fit; "" when they do."""
    if ours.shape != theirs.shape:
        return f"the shape is {ours.shape} here and {theirs.shape} there"
    if ours.stream_param != theirs.stream_param:
        return f"the stream going in is called {ours.stream_param} here and {theirs.stream_param} there"
    sending = _Comparison(our_components, their_components, drops_allowed=False)
    reading = _Comparison(their_components, our_components, drops_allowed=True)
    return (
        _params_problem(ours, theirs, sending)
        or sending.optional_problem(ours.stream_in, theirs.stream_in, f"{ours.stream_param}[]")
        or reading.optional_problem(theirs.result, ours.result, "the result")
        or reading.optional_problem(theirs.item, ours.item, "an item")
    )


def _params_problem(ours: Entry, theirs: Entry, sending: _Comparison) -> str:
    known = {p.name: p for p in theirs.params}
    mine = {p.name: p for p in ours.params}
    for param in theirs.params:
        if param.required and param.name not in mine:
            return f"the server requires {param.name!r}, which the contract does not have"
    for param in ours.params:
        other = known.get(param.name)
        if other is None and param.required:
            return f"the server does not know {param.name!r}"
        if other is not None and other.required and not param.required:
            return f"the server requires {param.name!r}, which the contract may leave out"
        if other is not None and (problem := sending.problem(param.schema, other.schema, param.name)):
            return problem
    return ""


class _Comparison:
    """Whether everything one schema lets through is read by another; the two may refer to shared schemas and to themselves.

    `drops_allowed` says whether the reader may skip what the sender always sends.
    """

    def __init__(self, sender: Mapping[str, Schema], reader: Mapping[str, Schema], *, drops_allowed: bool) -> None:
        self._sender = sender
        self._reader = reader
        self._drops_allowed = drops_allowed
        self._assumed: dict[tuple[str, str], str] = {}

    def optional_problem(self, sent: Schema | None, read: Schema | None, where: str) -> str:
        """Compare two schemas of which either may be absent."""
        if sent is None or read is None:
            return "" if sent is read else f"{where} is there on one side only"
        return self.problem(sent, read, where)

    def problem(self, sent: Schema, read: Schema, where: str) -> str:
        """Say why something `sent` allows would not be read; "" when all of it would."""
        pair = (str(sent.get("$ref", "")), str(read.get("$ref", "")))
        if pair in self._assumed:
            return self._assumed[pair]
        if not all(pair):
            return self._resolved_problem(_resolve(sent, self._sender), _resolve(read, self._reader), where)
        self._assumed[pair] = ""  # a type that contains itself: what is being compared is taken as fitting until shown otherwise
        found = self._resolved_problem(_resolve(sent, self._sender), _resolve(read, self._reader), where)
        self._assumed[pair] = found
        return found

    def _resolved_problem(self, sent: Schema, read: Schema, where: str) -> str:
        if "$ref" in sent or "$ref" in read:
            return self.problem(sent, read, where)
        if _says_nothing(sent) or _says_nothing(read):
            return ""
        if "anyOf" in sent:
            return next((p for option in sent["anyOf"] if (p := self.problem(option, read, where))), "")
        if "anyOf" in read:
            fits = any(not self.problem(sent, option, where) for option in read["anyOf"])
            return "" if fits else f"{where} is {_kind(sent)} at the sender and {_kind(read)} at the reader"
        if "enum" in sent or "enum" in read:
            return _enum_problem(sent, read, where)
        if _scalar(sent) != _scalar(read) and (sent.get("type"), read.get("type")) != ("integer", "number"):
            return f"{where} is {_kind(sent)} at the sender and {_kind(read)} at the reader"
        if sent.get("type") == "object":
            return self._object_problem(sent, read, where)
        if sent.get("type") == "array":
            return self._array_problem(sent, read, where)
        return ""

    def _object_problem(self, sent: Schema, read: Schema, where: str) -> str:
        mine, theirs = sent.get("properties", {}), read.get("properties", {})
        for name in read.get("required", ()):
            if name not in mine and "properties" in sent:
                return f"{where}.{name} is required by the reader and not known to the sender"
        for name, schema in mine.items():
            if name in theirs:
                if problem := self.problem(schema, theirs[name], f"{where}.{name}"):
                    return problem
            elif read.get("additionalProperties") is False:
                return f"{where}.{name} is sent to a reader that forbids unknown fields"
            elif name in sent.get("required", ()) and not self._drops_allowed and "properties" in read:
                return f"{where}.{name} is required by the sender and not known to the reader"
        more, more_read = sent.get("additionalProperties"), read.get("additionalProperties")
        if isinstance(more, dict) and isinstance(more_read, dict):
            return self.problem(more, more_read, f"{where}[...]")
        return ""

    def _array_problem(self, sent: Schema, read: Schema, where: str) -> str:
        mine, theirs = sent.get("prefixItems", []), read.get("prefixItems", [])
        if len(mine) < read.get("minItems", 0) and not isinstance(sent.get("items"), dict):
            return f"{where} has {len(mine)} places at the sender and at least {read['minItems']} at the reader"
        if read.get("items") is False and (len(mine) > len(theirs) or isinstance(sent.get("items"), dict)):
            return f"{where} has more places at the sender than the {len(theirs)} at the reader"
        for place, (a, b) in enumerate(zip(mine, theirs, strict=False)):
            if problem := self.problem(a, b, f"{where}[{place}]"):
                return problem
        more, more_read = sent.get("items"), read.get("items")
        if isinstance(more, dict) and isinstance(more_read, dict):
            return self.problem(more, more_read, f"{where}[]")
        if mine and isinstance(more_read, dict):
            return next((p for a in mine if (p := self.problem(a, more_read, f"{where}[]"))), "")
        return ""


def _resolve(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    """Follow one reference; a name that is not there says nothing, like `{}`."""
    name = str(schema.get("$ref", "")).removeprefix(_REFERENCE_PREFIX)
    return components.get(name, {}) if name else schema


def _says_nothing(schema: Schema) -> bool:
    return not ({"type", "enum", "anyOf"} & schema.keys())


def _scalar(schema: Schema) -> tuple[object, object, object]:
    return schema.get("type"), schema.get("format"), schema.get("contentEncoding")


def _enum_problem(sent: Schema, read: Schema, where: str) -> str:
    """A closed list of values fits a list that has them all, or the type of each of them."""
    if "enum" not in sent:
        return f"{where} is any {_kind(sent)} at the sender and one of {read['enum']} at the reader"
    if "enum" in read:
        extra = [value for value in sent["enum"] if value not in read["enum"]]
        return f"{where} may be {extra} at the sender, the reader knows {read['enum']}" if extra else ""
    kinds: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}
    wanted = kinds.get(str(read.get("type")), ())
    if "format" in read or "contentEncoding" in read or not all(isinstance(value, wanted) for value in sent["enum"]):
        return f"{where} is one of {sent['enum']} at the sender and {_kind(read)} at the reader"
    return ""


def _kind(schema: Schema) -> str:
    """Name a schema in one or two words, for a message."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE_PREFIX)
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "enum" in schema:
        return f"one of {schema['enum']}"
    if schema.get("contentEncoding"):
        return "bytes"
    return str(schema.get("title") or schema.get("format") or schema.get("type") or "anything")
