"""The far end of the demo: typed calls, streams, and files that it takes in, counts and digests for itself.

cd examples
holdfast serve transfer_service:svc --bind tcp://127.0.0.1:7000
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from transfer_api import Basket, FileInfo, Quote, Receipt, Sum, Tick, Total, Transfer, next_check, tree_digest

from holdfast import Context, Refused, Service

svc = Service("transfer", contract=Transfer)

FILES_MAX = 100_000


@dataclass
class Batch:
    """What has come in of one tree."""

    digests: dict[str, str] = field(default_factory=dict[str, str])
    size: int = 0


@dataclass
class Ledger:
    """Every file that has come in. The bytes are not kept: what this side knows of them is their digest."""

    batches: dict[str, Batch] = field(default_factory=dict[str, Batch])
    files: int = 0

    def enter(self, batch: str, name: str, digest: str, size: int) -> None:
        """Write a file down. Raises: Refused when it came before, or when there are too many."""
        if self.files >= FILES_MAX:
            raise Refused(f"this ledger holds at most {FILES_MAX:,} files", code="resource_exhausted")
        found = self.batches.setdefault(batch, Batch())
        if name in found.digests:
            raise Refused(f"{name} came twice in the batch {batch}", code="already_exists")
        found.digests[name] = digest
        found.size += size
        self.files += 1


@svc.lifespan
async def lifespan() -> AsyncIterator[Ledger]:
    yield Ledger()


@svc.method(idempotent=True)
def quote(basket: Basket) -> Quote:
    """The price of a basket."""
    return Quote(
        customer=basket.customer,
        pieces=sum(item.qty for item in basket.items),
        cents=sum(item.qty * item.cents for item in basket.items),
    )


@svc.method
async def ticks(first: int, count: int) -> AsyncIterator[Tick]:
    """Numbers from `first` on, each with a check over all before it."""
    check = 0
    for number in range(first, first + count):
        check = next_check(check, number)
        yield Tick(number, check)


@svc.method
async def sums(numbers: AsyncIterator[int]) -> AsyncIterator[Sum]:
    """The running total, one answer per number."""
    total = 0
    async for number in numbers:
        total += number
        yield Sum(number, total)


@svc.method
async def upload(file: FileInfo, chunks: AsyncIterator[bytes], ctx: Context) -> Receipt:
    """Take a file in and say what came."""
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    async for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    found = digest.hexdigest()
    ctx.state(Ledger).enter(file.batch, file.name, found, size)
    return Receipt(size=size, digest=found, matches=(size, found) == (file.size, file.digest))


@svc.method(idempotent=True)
async def total(batch: str, ctx: Context) -> Total:
    """All of a tree, as it came in here."""
    found = ctx.state(Ledger).batches.get(batch, Batch())
    return Total(files=len(found.digests), size=found.size, digest=tree_digest(found.digests))
