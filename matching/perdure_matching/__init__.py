"""Matching: which worker runs which task, and when.

``core`` decides and is pure; ``service`` is what the processor shell runs.
"""
