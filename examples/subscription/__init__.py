"""A subscription: trial, monthly charges, plan changes, failed cards, cancellation. See README.md."""
