"""Recipes for the topics: each is a program on a plain Kafka client that knows nothing of Perdure but its schemas."""
