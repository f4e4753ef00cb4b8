"""Words of a command line made into the arguments of a call, by the schemas the server's catalogue gives.

    name=value    text where the schema takes text, otherwise JSON          qty=2   name=ann   ratio=0.5
    name:=json    JSON, whatever the schema says                            tags:='["a","b"]'
    a.b=value     a field of an argument                                    order.id=o-1
    name=@file    the contents of a file (name:=@file: JSON in it)          data=@photo.jpg
    @file   -     the whole argument object as JSON, or the stream of items

Owned here: that grammar, and the conversion. Pure: files are read through a callable. What may never happen: a guess. What a schema does
not settle is refused with the words to write instead; everything deeper is the server's validation, which names the field.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ..errors import InvalidArgument
from .text import suggestion

Schema = Mapping[str, Any]
ReadFile = Callable[[str], bytes]

ANY: Schema = {}
_DEPTH_MAX = 64


class Parameter(NamedTuple):
    """One argument a method takes."""

    name: str
    schema: Schema
    required: bool = True


class Signature(NamedTuple):
    """What a method takes, as far as the command line needs it.

    Attributes:
        text: for people, `place(order: Order) -> str`.
        parameters: without the stream.
        stream: the name of the stream parameter, or None; items: the schema of its items.
        components: the definitions that `$ref` points into.
    """

    text: str
    parameters: tuple[Parameter, ...]
    stream: str | None = None
    items: Schema = ANY
    components: Mapping[str, Schema] = ANY


class Arguments(NamedTuple):
    """The arguments by name, and where the stream of items comes from (`-` or a file name) when the method takes one."""

    values: dict[str, object]
    source: str | None = None


def parse_arguments(words: Sequence[str], signature: Signature, read_file: ReadFile) -> Arguments:
    """Read the words of a command line as the arguments of one method.

    Raises: InvalidArgument naming the argument, what was expected, what came and what to write; OSError from `read_file`.
    """
    return _Reading(signature, read_file).read(words)


def is_bytes(schema: Schema, components: Mapping[str, Schema]) -> bool:
    """Whether values of this schema are raw bytes."""
    return any(v.get("contentEncoding") == "base64" for v in _variants(schema, components))


def from_json(text: bytes | str, schema: Schema, components: Mapping[str, Schema], where: str) -> object:
    """Read JSON and turn base64 text into bytes wherever the schema has bytes.

    Raises: InvalidArgument naming `where` and what is wrong with the JSON.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        shown = text if isinstance(text, str) else text[:60].decode("utf-8", "replace")
        raise InvalidArgument(f"{where}: expected JSON, got {shown[:60]!r} ({error})") from error
    return _adapt(value, schema, components, where, 0)


class _Reading:
    """One pass over the words."""

    def __init__(self, signature: Signature, read_file: ReadFile) -> None:
        self._signature = signature
        self._components = signature.components
        self._schemas = {p.name: p.schema for p in signature.parameters}
        self._read_file = read_file
        self._values: dict[str, object] = {}
        self._assigned: set[str] = set()
        self._source: str | None = None

    def read(self, words: Sequence[str]) -> Arguments:
        assignments = [word for word in words if not self._take_source(word)]
        if self._source is not None and self._signature.stream is None:
            self._whole_object(self._source)
            self._source = None
        loaded = set(self._values)
        for word in assignments:
            self._assign(word, loaded)
        self._check_complete()
        return Arguments(self._values, self._source)

    def _take_source(self, word: str) -> bool:
        """Note `-` or `@file`; whether the word was one."""
        if word != "-" and not word.startswith("@"):
            return False
        if word == "@":
            raise InvalidArgument("@ needs a file name: @orders.json, or - for standard input")
        if self._source is not None:
            raise InvalidArgument(f"{word}: there can be one @file or -, and there is another")
        self._source = "-" if word in ("-", "@-") else word[1:]
        return True

    def _whole_object(self, source: str) -> None:
        where = "standard input" if source == "-" else source
        value = from_json(self._read_file(source), ANY, ANY, where)
        if not isinstance(value, dict):
            raise InvalidArgument(f"{where}: expected a JSON object with the arguments by name, got {_json_type(value)}")
        for name, part in value.items():
            self._values[name] = _adapt(part, self._parameter(name), self._components, name, 0)

    def _assign(self, word: str, loaded: set[str]) -> None:
        """Put one `path=value` in its place; a word stands over what was `loaded` from a whole object."""
        key, equals, text = word.partition("=")
        as_json = key.endswith(":")
        path = (key[:-1] if as_json else key).split(".")
        if not equals or not all(path):
            raise InvalidArgument(f"{word!r} is not an argument; write name=value, name:=json, a.b=value, @file or -")
        schema, target = self._parameter(path[0]), self._values
        for depth, field in enumerate(path[1:], 1):
            schema = _field(schema, self._components, ".".join(path[:depth]), field)
            inner = target.setdefault(path[depth - 1], {})
            if not isinstance(inner, dict):
                raise InvalidArgument(f"{'.'.join(path)}: {'.'.join(path[:depth])} is given as a whole already")
            target = inner
        name = ".".join(path)
        if name in self._assigned or (path[-1] in target and path[0] not in loaded):
            raise InvalidArgument(f"{name} is given twice")
        self._assigned.add(name)
        target[path[-1]] = self._value(text, schema, name, as_json)

    def _value(self, text: str, schema: Schema, where: str, as_json: bool) -> object:
        if text.startswith("@"):
            if text == "@":
                raise InvalidArgument(f"{where}: @ needs a file name; for the text itself write {where}:='\"@\"'")
            content = self._read_file(text[1:])
            return from_json(content, schema, self._components, where) if as_json else _of_bytes(content, schema, self._components, where)
        return from_json(text, schema, self._components, where) if as_json else _of_text(text, schema, self._components, where)

    def _parameter(self, name: str) -> Schema:
        found = self._schemas.get(name)
        if found is not None:
            return found
        text = self._signature.text
        if name == self._signature.stream:
            raise InvalidArgument(f"{name} is the stream of {text}; give its items as @file or - (standard input)")
        raise InvalidArgument(f"{text} takes no {name!r}{self._near(name)}")

    def _near(self, name: str) -> str:
        """The nearest parameter, or the argument that has a field of that name."""
        for parameter in self._signature.parameters:
            for variant in _variants(parameter.schema, self._components):
                if name in variant.get("properties", ANY):
                    return f", did you mean {parameter.name + '.' + name!r}?"
        return suggestion(name, self._schemas)

    def _check_complete(self) -> None:
        missing = [p.name for p in self._signature.parameters if p.required and p.name not in self._values]
        text = self._signature.text
        if missing:
            raise InvalidArgument(f"{text} needs {', '.join(missing)}; write {missing[0]}=…")
        if self._signature.stream is not None and self._source is None:
            raise InvalidArgument(f"{text} takes a stream of {self._signature.stream}; add @file or - (standard input)")


def _variants(schema: Schema, components: Mapping[str, Schema]) -> Iterator[Schema]:
    """The alternatives of a schema with references resolved, each reference once: a catalogue that refers in circles ends too."""
    pending: list[Schema] = [schema]
    resolved: set[str] = set()
    while pending:
        first = pending.pop(0)
        reference = first.get("$ref")
        alternatives = first.get("anyOf") or first.get("oneOf")
        if isinstance(reference, str):
            if reference not in resolved:
                resolved.add(reference)
                pending.insert(0, components.get(reference.rpartition("/")[2], ANY))
        elif alternatives:
            pending[:0] = alternatives
        else:
            yield first


def _field(schema: Schema, components: Mapping[str, Schema], where: str, field: str) -> Schema:
    """The schema of `where.field`."""
    fields: list[str] = []
    for variant in _variants(schema, components):
        properties = variant.get("properties", ANY)
        rest = variant.get("additionalProperties")
        if field in properties:
            return properties[field]  # type: ignore[no-any-return]
        if isinstance(rest, Mapping):
            return rest
        if rest is True or not variant or (variant.get("type") == "object" and not properties):
            return ANY
        fields.extend(properties)
    if fields:
        near = suggestion(field, fields) or f"; it has {', '.join(fields)}"
        raise InvalidArgument(f"{where} has no field {field!r}{near}")
    expected = _expected(schema, components)
    hint = f"; write {where}:='[…]'" if expected.startswith("array") else ""
    raise InvalidArgument(f"{where} is {expected} and has no field {field!r}{hint}")


def _of_text(text: str, schema: Schema, components: Mapping[str, Schema], where: str) -> object:
    """`name=value`: text where the schema takes text, otherwise JSON of a fitting type."""
    variants = list(_variants(schema, components))
    if any(_takes_text(v, text) for v in variants):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"{where}: the text is not UTF-8; put it into a file and write {where}=@file") from error
        return text
    if any(v.get("contentEncoding") == "base64" for v in variants):
        return text.encode("utf-8", "surrogateescape")
    expected = _expected(schema, components)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise InvalidArgument(f"{where}: expected {expected}, got {text[:60]!r}") from None
    if not any(_fits(value, v) for v in variants):
        raise InvalidArgument(f"{where}: expected {expected}, got {text[:60]!r}")
    return _adapt(value, schema, components, where, 0)


def _of_bytes(content: bytes, schema: Schema, components: Mapping[str, Schema], where: str) -> object:
    """`name=@file`: the bytes themselves, their text, or JSON, as the schema has it."""
    if is_bytes(schema, components):
        return content
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{where}: expected {_expected(schema, components)}, the file is not UTF-8 text ({error.reason})") from error
    return _of_text(text, schema, components, where)


def _takes_text(variant: Schema, text: str) -> bool:
    """Whether a string is a value of this alternative, or could be (`ANY` takes text as it is)."""
    if "enum" in variant or "const" in variant:
        return text in variant.get("enum", [variant.get("const")])
    if variant.get("contentEncoding") == "base64":
        return False
    return "type" not in variant or "string" in _types(variant)


def _types(variant: Schema) -> list[str]:
    found = variant.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _fits(value: object, variant: Schema) -> bool:
    """Whether a JSON value is of this alternative's type; how it looks inside is the server's business."""
    if "enum" in variant or "const" in variant:
        return any(value == choice and type(value) is type(choice) for choice in variant.get("enum", [variant.get("const")]))
    types = _types(variant)
    kind = _json_type(value)
    return not types or kind in types or (kind == "integer" and "number" in types)


def _expected(schema: Schema, components: Mapping[str, Schema]) -> str:
    """The types a schema takes, for people: `integer or null`, `one of 'a', 'b'`."""
    words: list[str] = []
    for variant in _variants(schema, components):
        if "enum" in variant or "const" in variant:
            choices = variant.get("enum", [variant.get("const")])
            words.append("one of " + ", ".join(repr(c) for c in choices))
        elif variant.get("contentEncoding") == "base64":
            words.append("bytes")
        else:
            title = variant.get("title")
            words.extend(f"object {title}" if t == "object" and title else t for t in _types(variant) or ["anything"])
    return " or ".join(dict.fromkeys(words))


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((str, "string"), (int, "integer"), (float, "number"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "null"


def _adapt(value: object, schema: Schema, components: Mapping[str, Schema], where: str, depth: int) -> object:
    """A JSON value with base64 text turned into bytes where the schema has bytes: JSON cannot carry them, the wire can."""
    if depth > _DEPTH_MAX or not isinstance(value, str | list | dict):
        return value
    variants = list(_variants(schema, components))
    if isinstance(value, str):
        if any(_takes_text(v, value) for v in variants) or not any(v.get("contentEncoding") == "base64" for v in variants):
            return value
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise InvalidArgument(f"{where}: expected bytes as base64 text, got {value[:40]!r} ({error})") from error
    if isinstance(value, list):
        return [_adapt(v, _item(variants, i), components, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    return {k: _adapt(v, _member(variants, k), components, f"{where}.{k}", depth + 1) for k, v in value.items()}


def _item(variants: Sequence[Schema], index: int) -> Schema:
    for variant in variants:
        prefix = variant.get("prefixItems", ())
        if index < len(prefix):
            return prefix[index]  # type: ignore[no-any-return]
        if isinstance(variant.get("items"), Mapping):
            return variant["items"]  # type: ignore[no-any-return]
    return ANY


def _member(variants: Sequence[Schema], name: str) -> Schema:
    for variant in variants:
        if name in variant.get("properties", ANY):
            return variant["properties"][name]  # type: ignore[no-any-return]
    for variant in variants:
        if isinstance(variant.get("additionalProperties"), Mapping):
            return variant["additionalProperties"]  # type: ignore[no-any-return]
    return ANY
