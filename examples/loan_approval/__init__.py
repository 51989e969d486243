"""A loan that two people have to approve, in time. See README.md."""
