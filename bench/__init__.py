"""Measured workloads: ``python -m bench --help``. How and what is measured stands in ``docs/performance.md``."""
