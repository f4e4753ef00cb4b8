"""Handler to handler: what may be done about a call that failed.

In: a Handler and how to judge its errors. Out: a Handler. Never: frames, addresses, sockets; a decision from an exception's type
instead of its facts. Read first: `retry.py`.
"""

__all__ = ()
