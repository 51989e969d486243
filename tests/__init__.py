"""The tests of Perdure. ``python -m tests`` runs everything that has to pass before a change lands."""
