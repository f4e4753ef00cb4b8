"""The benchmark: holdfast beside bare_rpc and beside what users would pick, in one run.

`run.py` is where to start reading; `peers/` has one file per library. Nothing in `src/` may know that this folder exists.
"""
