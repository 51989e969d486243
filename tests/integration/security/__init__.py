"""Kafka locked down: TLS, SASL/SCRAM, ACLs; and secrets that stay secret."""
