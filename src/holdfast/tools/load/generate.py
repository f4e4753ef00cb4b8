"""Arguments that differ from call to call: words of a command line with generators in them, made into a function of the call number.

    {i}                 the number of the call; no two calls of a run have the same
    {uuid}              a random UUID
    {rand:64}           64 random characters out of 0123456789abcdef
    {file:PATH}         the next row of a file, from the top again at its end; {file:PATH:COLUMN} for .csv and .jsonl
    {{  }}              a brace

In `name=value` a generator stands anywhere in the text. In `name:=json` it stands in a string, as there, or in the place of a value, where
`{i}` is a number; the braces of JSON's own objects are left alone. Files named by `@` are not looked into.

Owned here: that grammar. Types are not: the command line reads a *sample* of the words (call 0) by the method's schema, and what came out
says for each word whether it is text, bytes or JSON. Pure: files are read through a callable. What may never happen: a brace that is
silently taken for text when a generator was meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ...clock import Rng
from ...errors import InvalidArgument
from .rows import column_of, read_rows

ReadFile = Callable[[str], bytes]
Render = Callable[[int], str]
Make = Callable[[int], Any]

ALPHABET = "0123456789abcdef"
RANDOM_CHARACTERS_MAX = 1024 * 1024
KNOWN = "{i}, {uuid}, {rand:64}, {file:PATH}"

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_VALUE = re.compile(r"\{((?:i|uuid|rand|file)\b[^{}]*)\}")


class _Zeros:
    """The Rng of the sample."""

    def random(self) -> float:
        return 0.0

    def uniform(self, a: float, b: float) -> float:
        return a

    def getrandbits(self, k: int) -> int:
        return 0

    def randrange(self, start: int, stop: int | None = None) -> int:
        return start if stop is not None else 0


class Word(NamedTuple):
    """One word, read: literal texts and generators in turn. `cycle` is how many calls it takes to see every row of its files."""

    path: tuple[str, ...]
    as_json: bool
    parts: tuple[str | Render, ...]
    cycle: int

    @property
    def varies(self) -> bool:
        """Whether there is a generator in it."""
        return any(not isinstance(part, str) for part in self.parts)

    def render(self, number: int) -> str:
        """The value's text for one call."""
        return "".join([part if isinstance(part, str) else part(number) for part in self.parts])


def sample_words(words: Sequence[str], read_file: ReadFile) -> list[str]:
    """Return the words as call 0 would have them, to be read by the method's schema.

    Raises: InvalidArgument for a generator that is none; OSError from `read_file`.
    """
    sampled = []
    for word in words:
        read = _read(word, read_file, _Zeros())
        sampled.append(word if read is None else word.partition("=")[0] + "=" + read.render(0))
    return sampled


def make_arguments(words: Sequence[str], sample: Mapping[str, Any], read_file: ReadFile, rng: Rng) -> Callable[[int], dict[str, Any]]:
    """Return a function from the call number to the arguments.

    Args:
        words: as they were typed.
        sample: what the words of `sample_words` came to.
    Raises: InvalidArgument; OSError from `read_file`.
    """
    leaves: dict[tuple[str, ...], Make] = {}
    for typed in words:
        word = _read(typed, read_file, rng)
        if word is not None and word.varies:
            sampled = _read(typed, read_file, _Zeros())
            assert sampled is not None
            leaves[word.path] = _leaf(word, sampled.render(0), _at(sample, word.path))
    return _maker(dict(sample), leaves)


# --------------------------------------------------------------------------------------------------------------- reading


def _read(word: str, read_file: ReadFile, rng: Rng) -> Word | None:
    """Read one word; None for one that no generator can stand in: `-`, `@file`, `name=@file`, or one without `=`."""
    key, equals, text = word.partition("=")
    if word == "-" or word.startswith("@") or not equals or text.startswith("@"):
        return None
    as_json = key.endswith(":")
    path = tuple((key[:-1] if as_json else key).split("."))
    parts: list[str | Render] = []
    cycle = [1]
    reading = _Reading(key.removesuffix(":"), read_file, rng, parts, cycle)
    if as_json:
        reading.json(text)
    else:
        reading.text(text, quoted=False)
    return Word(path, as_json, tuple(parts), cycle[0])


class _Reading:
    """One pass over one value."""

    def __init__(self, where: str, read_file: ReadFile, rng: Rng, parts: list[str | Render], cycle: list[int]) -> None:
        self._where = where
        self._read_file = read_file
        self._rng = rng
        self._parts = parts
        self._cycle = cycle

    def text(self, text: str, *, quoted: bool) -> None:
        """Plain text, or (`quoted`) the inside of a JSON string."""
        at = 0
        for found in _BRACES.finditer(text):
            self._literal(text[at : found.start()])
            at = found.end()
            if found[0] in ("{{", "}}"):
                self._literal(found[0][0])
            elif found[1] is None:
                raise InvalidArgument(f"{self._where}: a single {found[0]!r}; write it twice for the brace itself, or one of {KNOWN}")
            else:
                self._parts.append(self._generator(found[1], "quoted" if quoted else "text"))
        self._literal(text[at:])

    def json(self, text: str) -> None:
        """JSON: strings are read as text, and between them a generator may stand for a value."""
        at = 0
        while at < len(text):
            quote = text.find('"', at)
            between = text[at:] if quote < 0 else text[at:quote]
            done = 0
            for found in _VALUE.finditer(between):
                self._literal(between[done : found.start()])
                self._parts.append(self._generator(found[1], "value"))
                done = found.end()
            self._literal(between[done:])
            if quote < 0:
                return
            end = _string_end(text, quote)
            self._literal('"')
            self.text(text[quote + 1 : end], quoted=True)
            self._literal(text[end : end + 1])
            at = end + 1

    def _literal(self, text: str) -> None:
        if not text:
            return
        if self._parts and isinstance(self._parts[-1], str):
            self._parts[-1] += text
        else:
            self._parts.append(text)

    def _generator(self, spec: str, form: str) -> Render:
        """The function for one generator. `form`: in text, inside a JSON string, or a JSON value of its own."""
        kind, _, rest = spec.partition(":")
        if spec == "i":
            return str
        if spec == "uuid":
            return _uuid(self._rng, '"' if form == "value" else "")
        if kind == "rand" and rest.isascii() and rest.isdigit() and 0 < int(rest) <= RANDOM_CHARACTERS_MAX:
            return _random(self._rng, int(rest), '"' if form == "value" else "")
        if kind == "rand":
            raise InvalidArgument(f"{self._where}: {{{spec}}}: write how many characters, from 1 to {RANDOM_CHARACTERS_MAX:,}: {{rand:64}}")
        if kind == "file" and rest:
            return self._rows(rest, form)
        raise InvalidArgument(f"{self._where}: there is no generator {{{spec}}}; there are {KNOWN}; write {{{{ and }}}} for braces")

    def _rows(self, spec: str, form: str) -> Render:
        path, column = column_of(spec)
        rows = read_rows(self._read_file(path), path, column)
        if form == "value":
            shown = rows.values
        elif form == "quoted":
            shown = [json.dumps(text, ensure_ascii=False)[1:-1] for text in rows.texts]
        else:
            shown = rows.texts
        count = len(shown)
        self._cycle[0] = max(self._cycle[0], count)
        return lambda number: shown[number % count]


def _string_end(text: str, quote: int) -> int:
    """Where the JSON string that begins at `quote` ends: at its closing quote, or at the end of a text that has none."""
    at = quote + 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return min(at, len(text))


def _random(rng: Rng, count: int, quote: str) -> Render:
    bits = 4 * count
    getrandbits = rng.getrandbits
    return lambda _: f"{quote}{getrandbits(bits):0{count}x}{quote}"


def _uuid(rng: Rng, quote: str) -> Render:
    getrandbits = rng.getrandbits

    def make(_: int) -> str:
        bits = getrandbits(128)
        bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62  # version 4, variant 10
        digits = f"{bits:032x}"
        return f"{quote}{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}{quote}"

    return make


# ---------------------------------------------------------------------------------------------------------------- making


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = tree
    for name in path:
        found = found[name]
    return found


def _leaf(word: Word, text: str, sampled: Any) -> Make:
    """What makes one argument; `sampled` is what its sample `text` was read as, which says what the schema takes."""
    where = ".".join(word.path)
    if not word.as_json and isinstance(sampled, str) and sampled == text:
        return _text_maker(word)
    if not word.as_json and isinstance(sampled, bytes) and sampled == text.encode():
        return lambda number: word.render(number).encode()
    if msgspec.json.decode(text) != sampled:
        raise InvalidArgument(f"{where} has bytes inside its JSON, where a generator cannot stand; give the bytes a word of their own")
    if word.parts == (str,):
        return int
    decode = msgspec.json.decode
    for number in range(word.cycle):
        row = word.render(number)
        try:
            decode(row)
        except msgspec.DecodeError as error:
            raise InvalidArgument(f"{where}: call {number} would have {row[:60]!r}, which is not JSON ({error})") from error
    return lambda number: decode(word.render(number))


def _text_maker(word: Word) -> Make:
    """`render`, in a faster form for the usual ones: one generator, with or without text before it."""
    first, last = word.parts[0], word.parts[-1]
    if isinstance(last, str) or len(word.parts) > 2:
        return word.render
    if isinstance(first, str):
        return lambda number: first + last(number)
    return last


def _maker(tree: dict[str, Any], leaves: dict[tuple[str, ...], Make]) -> Callable[[int], dict[str, Any]]:
    """A function that copies what changes of the tree, and no more."""
    changing: dict[str, Make] = {}
    for path, leaf in leaves.items():
        if len(path) == 1:
            changing[path[0]] = leaf
        elif path[0] not in changing:
            below = {other[1:]: make for other, make in leaves.items() if other[0] == path[0]}
            changing[path[0]] = _maker(tree[path[0]], below)
    if not changing:
        return lambda _: tree
    if len(changing) == len(tree) == 1:
        ((name, only),) = changing.items()
        return lambda number: {name: only(number)}
    items = list(changing.items())

    def make(number: int) -> dict[str, Any]:
        values = tree.copy()
        for name, leaf in items:
            values[name] = leaf(number)
        return values

    return make
