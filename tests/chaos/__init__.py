"""Real faults on real processes while workflows run, with an oracle outside: ``python -m tests.chaos``."""
