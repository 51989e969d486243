"""Timers: wakes runs up when their next deadline is due.

``core`` decides and is pure; ``service`` is what the processor shell runs.
"""
