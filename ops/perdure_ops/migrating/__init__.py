"""A namespace's topics carried over to another partition count.

Pure: what counts (``survivors``), what it becomes (``translation``), which copy a target holds (``manifest``). The
shell that reads and writes is ``copying``; the command's flow stands in ``perdure_ops.migrate_partitions``.
"""
