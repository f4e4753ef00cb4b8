"""Bytes: an address becomes a link, a link gives bytes by callback and takes bytes by `write`.

What comes in: addresses, and the bytes of peers. What goes out: calls on a Receiver (`rpc` sessions implement it).
What never happens here: parsing what the bytes mean, retrying, choosing a node, a kernel socket outside `network.py`.
Read `link.py` first: the three protocols everything else implements. Then `tcp.py`, the one link over a kernel socket.
"""

__all__ = ()
