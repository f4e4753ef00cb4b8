"""Processes: how one starts, what a signal does to it, how it ends.

What comes in: a Program (any callable that is given the Signals and returns a coroutine). What goes out: its result, or the fact that
somebody asked for a hard stop. What it never does: know rpc, wire, services or anybody's code. Read `lifecycle.py` first.
"""

__all__ = ()
