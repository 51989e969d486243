"""Workflows that users write as JSON, and one workflow that runs them. See README.md."""
