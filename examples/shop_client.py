"""Every way to call the shop.

cd examples
holdfast serve shop:svc --bind tcp://127.0.0.1:7000
python shop_client.py tcp://127.0.0.1:7000
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from shop import Order
from shop_api import Shop

import holdfast


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 1024


async def main(address: str) -> None:
    async with holdfast.connect(address) as client:
        shop = client.bind(Shop)  # typed as Shop
        print("place   ", await shop.place(Order("o-1", 2)))
        print("again   ", await client.call("shop.place", Order("o-2", 1), returns=str, deadline=2.0))

        async with client.stream("shop.watch", since=0, returns=Order) as orders:
            async for order in orders:
                print("watch   ", order.id)

        print("upload  ", await client.call("shop.upload", "a.bin", chunks=chunks(), returns=int), "bytes")

        quick = client.using(deadline=0.2, attempts=1)  # a view on the same connection
        print("price   ", await quick.bind(Shop).price("A"))
        print("report  ", await shop.report("2026-01-31"))

        try:
            await client.call("shop.place", {"id": "o-3", "qty": "two"})
        except holdfast.InvalidArgument as error:
            print("refused ", error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7000"))
