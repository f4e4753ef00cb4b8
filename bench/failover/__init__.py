"""What callers notice when nodes are killed, frozen, cut off, reset, restarted, slow or broken: holdfast beside what people use instead.

Run it with `make failover` or `python -m bench.failover`; README.md says what is measured and how to read it. Read `script.py` first.
"""
