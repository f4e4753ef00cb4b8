"""Bytes: an address becomes a link, a link gives bytes by callback and takes bytes by `write`.

What comes in: addresses, and the bytes of peers. What goes out: calls on a Receiver (`rpc` sessions implement it, and `hosted.py` for
anybody's asyncio protocol).
What never happens here: parsing what the bytes mean, retrying, choosing a node, a kernel socket outside `sockets.py`.
Read `link.py` first: the three protocols everything else implements. Then `tcp.py`, the one link over a kernel socket.
"""

from .framed import Framed
from .hosted import Drainable
from .link import DatagramOptions, DatagramStats
from .options import ConnectOptions, ListenOptions

__all__ = ("ConnectOptions", "DatagramOptions", "DatagramStats", "Drainable", "Framed", "ListenOptions")
