"""Kills of every part while workflows run, on both logs, with an oracle outside of the platform."""
