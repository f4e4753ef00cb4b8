"""Bytes to calls: the only place where the protocol meets tasks.

In: bytes from a link, and calls of our own. Out: bytes to a link, handlers run, replies and items handed to whoever waits.
Never: chooses a node, retries, authenticates, opens a socket.
Read first: `session.py`, then `caller.py` (our calls) and `responder.py` (theirs); `contract.py` for how a function becomes a method.
"""

__all__ = ()
