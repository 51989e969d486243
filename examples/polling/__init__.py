"""A source is polled until something changes, for days if need be. See README.md."""
