"""The relay: writes into topics of the user's what workflows emit, each record once.

``following`` (pure) reads a partition of ``history``; ``carrier`` is what the relay needs of a log beyond the port;
``service`` is the thread that does the work.
"""
