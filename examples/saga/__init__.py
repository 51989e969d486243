"""A saga: a trip of a hotel and two flights, or nothing at all. See README.md."""
