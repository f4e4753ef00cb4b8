"""What the transfer service of the demo offers, and the types that cross the wire."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import msgspec

CHUNK_BYTES = 64 * 1024


class Item(msgspec.Struct):
    sku: str
    qty: int
    cents: int


class Basket(msgspec.Struct):
    customer: str
    items: list[Item]


class Quote(msgspec.Struct):
    customer: str
    pieces: int
    cents: int


class Tick(msgspec.Struct):
    """One item of a server stream. `check` depends on all items before it, so none can be missing, doubled or out of order."""

    number: int
    check: int


class Sum(msgspec.Struct):
    """The answer to one number of a duplex stream."""

    number: int
    total: int


class FileInfo(msgspec.Struct):
    """What is said about a file before its bytes. `batch` names the tree it belongs to."""

    batch: str
    name: str
    size: int
    digest: str


class Receipt(msgspec.Struct):
    """What came in for one file, and whether it is what was announced: the far end's own count and its own digest."""

    size: int
    digest: str
    matches: bool


class Total(msgspec.Struct):
    """A whole tree, as one side knows it."""

    files: int
    size: int
    digest: str


class Transfer(Protocol):
    async def quote(self, basket: Basket) -> Quote: ...
    def ticks(self, first: int, count: int) -> AsyncIterator[Tick]: ...
    def sums(self, numbers: AsyncIterator[int]) -> AsyncIterator[Sum]: ...
    async def upload(self, file: FileInfo, chunks: AsyncIterator[bytes]) -> Receipt: ...
    async def total(self, batch: str) -> Total: ...


def file_digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def tree_digest(digests: Mapping[str, str]) -> str:
    """One digest for a tree: over its names and their digests, in order of name."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(digests):
        total.update(f"{name}\0{digests[name]}\n".encode())
    return total.hexdigest()


def next_check(check: int, number: int) -> int:
    """The check of a stream's next item, from the one before."""
    return (check * 31 + number) % 1_000_003
