"""Helpers that several test tiers share: brokers, log factories, fakes."""
