"""The payments example: a bank's payment batch settled exactly once while processes are killed.

`python -m examples.payments` runs it; README.md beside this file says what it shows.
"""
