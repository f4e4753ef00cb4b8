"""Many nodes that look like one: which there are, how each is doing, and which one takes the next call.

What comes in: endpoints, and how their attempts went. What goes out: a node. What never happens here: a socket, a frame, a retry; nodes
are made by whoever knows how to reach them. Read `endpoint.py` first.
"""

__all__ = ()
