"""Measured workloads. ``python -m bench run`` prints latency and throughput on both logs, side by side in one run."""
