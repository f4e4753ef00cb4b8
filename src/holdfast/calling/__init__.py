"""From a call to an attempt at a node: policies, nodes and connections put together for the client.

What comes in: Requests. What goes out: Replies, over sessions of `rpc`. What never happens here: a frame, a socket; a decision that
`policy` or `balance` could make. Read `stack.py` first: the whole client on one page.
"""

__all__ = ()
