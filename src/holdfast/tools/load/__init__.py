"""The load generator: what to send and when, the processes that send it, what they measured, and how that reads.

What comes in: a Plan and a method (or a scenario). What goes out: a Measured, and documents made from it. What it never does: leave out
of a figure what it did not send, or keep quiet when it was itself too slow. Read `plan.py` first, then `run.py` and `fleet.py`.
"""

__all__ = ()
