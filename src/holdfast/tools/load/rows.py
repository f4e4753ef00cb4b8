"""Rows of a file, of which each call takes the next.

    words.txt          one text a line
    orders.csv         the first line names the columns
    orders.jsonl       one JSON value a line (also .ndjson)

Owned here: reading those, and the two forms a row has: as text, and as JSON. Pure: it is handed the bytes. What may never happen: a row
that is skipped or made up without a word.
"""

from __future__ import annotations

import csv
from typing import Any, NamedTuple

import msgspec

from ...errors import InvalidArgument


class Rows(NamedTuple):
    """One column of a file. `texts` are the rows as text, `values` the same as JSON text where the file has JSON, else the texts."""

    texts: list[str]
    values: list[str]


def read_rows(content: bytes, path: str, column: str) -> Rows:
    """Return the rows of a file; of a CSV or JSONL file with columns, those of `column`.

    Raises: InvalidArgument that names the file, the line and what to write.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: expected UTF-8 text ({error.reason} at byte {error.start})") from error
    kind = path.rpartition(".")[2].lower()
    if kind == "csv":
        rows = _csv(text, path, column)
    elif kind in ("jsonl", "ndjson"):
        rows = _json_lines(text, path, column)
    else:
        if column:
            raise InvalidArgument(f"{path} has no columns: write {{file:{path}}}; columns are read from .csv and .jsonl files")
        lines = [line for line in text.splitlines() if line]
        rows = Rows(lines, lines)
    if not rows.texts:
        raise InvalidArgument(f"{path} has no rows; expected at least one")
    return rows


def _csv(text: str, path: str, column: str) -> Rows:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        names = list(reader.fieldnames or ())
        _check_column(column, names, path)
        texts = []
        for row in reader:
            if row[column] is None:
                raise InvalidArgument(f"{path} line {reader.line_num} has no {column!r}: it has too few columns")
            texts.append(row[column])
    except csv.Error as error:
        raise InvalidArgument(f"{path} line {reader.reader.line_num}: expected CSV ({error})") from error
    return Rows(texts, texts)


def _json_lines(text: str, path: str, column: str) -> Rows:
    values: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidArgument(f"{path} line {number}: expected JSON ({error})") from error
        if column:
            if not isinstance(value, dict) or column not in value:
                _check_column(column, list(value) if isinstance(value, dict) else [], f"{path} line {number}")
            value = value[column]
        values.append(value)
    encoded = [msgspec.json.encode(value).decode() for value in values]
    return Rows([value if isinstance(value, str) else code for value, code in zip(values, encoded, strict=True)], encoded)


def _check_column(column: str, names: list[str], where: str) -> None:
    if column in names:
        return
    known = f"its columns are {', '.join(names)}" if names else "it has no columns"
    if not column:
        raise InvalidArgument(f"{where}: {known}; say which one: {{file:{where}:{names[0] if names else 'COLUMN'}}}")
    raise InvalidArgument(f"{where} has no column {column!r}; {known}")


def column_of(spec: str) -> tuple[str, str]:
    """`orders.csv:sku` → the path and the column, which may be empty."""
    path, colon, column = spec.rpartition(":")
    return (path, column) if colon and path else (spec, "")
