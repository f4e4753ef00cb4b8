"""Facts in, views out: logs and counts.

What comes in: every Fact the mechanisms emit. What goes out: one log line per event, and a frozen snapshot of counts and latencies.
What it never does: steer anything. Nothing here is read by a mechanism, raises into one, or waits. Read `log.py` first.
"""

__all__ = ()
