"""A deterministic simulation of the whole platform in one thread: ``python -m tests.sim --seed N``.

The real role handlers in the real processor shell, the real worker with real workflow code and the real client run on a
virtual clock, over a log in memory that fails in every way the ``Log`` port allows. One seed is one run.
"""
