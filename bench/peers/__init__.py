"""Other systems, measured beside ours: each is a program of its own, in an environment of its own.

A program speaks the protocol of :mod:`bench.peers.protocol`; our own targets do, too, so that all are driven by the
same code. It imports the standard library, :mod:`bench.driving`, :mod:`bench.usage` and its system, nothing more.
"""
