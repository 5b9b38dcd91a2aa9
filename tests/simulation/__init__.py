"""Whole clusters in one process: the real cores over a simulated clock, network and store.

`python -m tests.simulation --seeds 1000` runs many, `--seed 17` one with its trace.
"""
