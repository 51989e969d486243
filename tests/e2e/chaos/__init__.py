"""A short storm of faults, and the parts that make it."""
