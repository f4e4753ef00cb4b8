"""Pure machines that many layers need: a timer wheel, a token bucket, a latency histogram.

What comes in: times (float seconds of a monotonic clock) and events, as plain calls. What goes out: return values and callbacks.
What never happens here: a loop, a clock, a thread, a dice throw or I/O; whoever owns a machine hands those in. Read `wheel.py` first.
"""

__all__ = ()
