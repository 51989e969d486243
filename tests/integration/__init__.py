"""Tests against real parts: brokers, stores, sockets."""
