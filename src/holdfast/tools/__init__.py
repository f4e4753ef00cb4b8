"""Instruments around a service: the load generator.

What comes in: what to do to which address, as values. What goes out: what was measured, as values and as texts. What it never does: touch
a terminal, or know a verb's options; the command line does. Read `load/plan.py` first.
"""

__all__ = ()
