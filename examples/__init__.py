"""Example programs for Perdure, run from the repository root as `python -m examples.<name>`."""
